//! List and watch requests: the content of `ConfigMap`s is never requested.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::json;
use tokio::sync::mpsc;

use crate::api::scope::Scope;
use crate::caches::stores::Writers;
use crate::controller::triggers;
use crate::metrics::Metrics;
use crate::spec_resolver::SpecResolver;

/// A list or watch request.
#[derive(Clone, Debug)]
struct WatchRequest {
    plural: String,
    query: String,
    accept: Option<String>,
}

/// A client of an API server without objects.
fn client(target_revision: mpsc::UnboundedSender<WatchRequest>) -> Client {
    let target_revision = Arc::new(target_revision);
    let service = tower::service_fn(move |request: Request<Body>| {
        let target_revision = target_revision.clone();
        async move {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let plural = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            let accept = request.headers().get("accept").map(|accept| accept.to_str().unwrap().to_owned());
            let is_watch = query.contains("watch=true");
            target_revision.send(WatchRequest { plural, query, accept }).unwrap();
            if is_watch {
                // No event ever arrives.
                std::future::pending::<()>().await;
            }
            let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []});
            Ok::<_, Infallible>(Response::new(Body::from(list.to_string().into_bytes())))
        }
    });
    Client::new(service, "default")
}

#[tokio::test]
async fn config_maps_are_watched_by_metadata_in_small_pages() {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let metrics = Metrics::register(&canopy_runtime::metrics::Registry::new()).unwrap();
    let scope = Scope { client: client(sender), namespace: None };
    let _news = triggers::start(&scope, Writers::default(), SpecResolver::default(), metrics);
    // Nine managed kinds and the ConfigMaps of users: each is listed and then watched.
    let mut all = Vec::new();
    while all
        .iter()
        .filter(|target_revision: &&WatchRequest| target_revision.query.contains("watch=true"))
        .count()
        < 10
    {
        all.push(receiver.recv().await.unwrap());
    }
    let of_config_maps: Vec<_> =
        all.iter().filter(|target_revision| target_revision.plural == "configmaps").collect();
    assert_eq!(of_config_maps.len(), 4, "{all:#?}");
    for target_revision in of_config_maps {
        let accept = target_revision.accept.as_deref().unwrap_or_default();
        assert!(accept.contains("as=PartialObjectMetadata"), "{target_revision:?}");
    }
    for target_revision in all.iter().filter(|target_revision| !target_revision.query.contains("watch=true"))
    {
        let limit = target_revision.query.split('&').find_map(|pair| pair.strip_prefix("limit="));
        let most = if target_revision.plural == "predictormodels" { 500 } else { 100 };
        assert!(limit.is_some_and(|limit| limit.parse::<u32>().unwrap() <= most), "{target_revision:?}");
    }
}
