//! The summary that `canopy up` prints once it serves: addresses, models and an example request.

use std::fmt;
use std::net::SocketAddr;

use canopy_contract::describe::{Metric, Quality};
use serde::Serialize;

use crate::local_models::TrainedModel;

/// The addresses of the gateway and the models.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    gateway: String,
    docs: String,
    metrics: String,
    models: Vec<Served>,
    example: String,
}

/// One model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Served {
    model: String,
    version: String,
    revision: String,
    predictor: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    quality: Option<Quality>,
    #[serde(skip)]
    request: String,
}

impl Served {
    /// The model that was made, at its address.
    pub(crate) fn new(made: &TrainedModel, address: SocketAddr) -> Self {
        Self {
            model: made.called(),
            version: made.config.version.clone(),
            revision: made.config.revision.clone(),
            predictor: format!("http://{address}"),
            quality: made.quality.clone(),
            request: made.request(),
        }
    }
}

impl Summary {
    /// The summary of a gateway and its models, with a question for the model `example`.
    pub(crate) fn new(gateway: SocketAddr, admin: SocketAddr, models: Vec<Served>, example: usize) -> Self {
        let gateway = format!("http://{gateway}");
        let example = models.get(example).map(|served| question(&gateway, served)).unwrap_or_default();
        Self {
            docs: format!("{gateway}/docs"),
            metrics: format!("http://{admin}/metrics"),
            gateway,
            models,
            example,
        }
    }
}

/// A line for a shell.
fn question(gateway: &str, served: &Served) -> String {
    let Served { model, request, .. } = served;
    format!("curl -s {gateway}/api/models/{model}/predict -H 'content-type: application/json' -d '{request}'")
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gateway, docs, metrics, models, example } = self;
        let name = |served: &Served| format!("model {}", served.model);
        let width =
            models.iter().map(|served| name(served).len()).max().unwrap_or_default().max("gateway".len());
        for (what, place) in [("gateway", gateway), ("docs", docs), ("metrics", metrics)] {
            writeln!(f, "{what:width$}  {place}")?;
        }
        let address_width = models.iter().map(|served| served.predictor.len()).max().unwrap_or_default();
        for served in models {
            let quality = match &served.quality {
                Some(Quality { metric: Metric::Accuracy, value, samples }) => {
                    format!("accuracy {value:.4} on {samples} held-out rows")
                }
                Some(Quality { metric, value, samples }) => {
                    format!("{metric:?} {value:.4} on {samples} rows")
                }
                None => "not evaluated".to_owned(),
            };
            writeln!(
                f,
                "{:width$}  {:address_width$}  version {}, {quality}",
                name(served),
                served.predictor,
                served.version
            )?;
        }
        writeln!(f, "\nTry it:\n  {example}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_the_addresses_and_an_example() {
        let served = |model: &str, port: u16, request: &str| Served {
            model: model.to_owned(),
            version: "1.0".to_owned(),
            revision: "6f3a9c1e".to_owned(),
            predictor: format!("http://127.0.0.1:{port}"),
            quality: Some(Quality { metric: Metric::Accuracy, value: 29.0 / 30.0, samples: 30 }),
            request: request.to_owned(),
        };
        let models = vec![served("iris.shop", 8001, "{}"), served("demo", 41001, "{\"features\":[1,-0.5]}")];
        let (gateway, admin) =
            (SocketAddr::from(([127, 0, 0, 1], 8000)), SocketAddr::from(([127, 0, 0, 1], 9000)));
        let summary = Summary::new(gateway, admin, models, 1);
        let expected = "\
gateway          http://127.0.0.1:8000
docs             http://127.0.0.1:8000/docs
metrics          http://127.0.0.1:9000/metrics
model iris.shop  http://127.0.0.1:8001   version 1.0, accuracy 0.9667 on 30 held-out rows
model demo       http://127.0.0.1:41001  version 1.0, accuracy 0.9667 on 30 held-out rows

Try it:
  curl -s http://127.0.0.1:8000/api/models/demo/predict -H 'content-type: application/json' -d '{\"features\":[1,-0.5]}'
";
        assert_eq!(summary.to_string(), expected);
    }
}
