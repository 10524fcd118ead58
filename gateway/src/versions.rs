//! Which models and versions have series, and which series must be removed. Predictors choose their versions and models come and
//! go, so without a limit the series of a long-lived gateway would grow forever. `metrics` removes what this module returns.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use canopy_contract::names::ModelRef;
use tokio::time::Instant;

/// How many versions of a model have series: more than a model keeps revisions, so that series in use are never removed.
const VERSIONS_MAX: usize = 8;

/// The models and versions that have series.
#[derive(Default)]
pub(crate) struct SeriesVersions {
    by_model: HashMap<ModelRef, ModelVersions>,
}

#[derive(Default)]
struct ModelVersions {
    /// The most recently used version is at the back.
    versions: VecDeque<String>,
    /// When discovery first reported the model as unknown.
    absent: Option<Instant>,
}

impl SeriesVersions {
    /// Records a use of `version`. Returns the version whose series must be removed to stay within the limit.
    pub(crate) fn touch(&mut self, model: &ModelRef, version: &str) -> Option<String> {
        let seen = self.by_model.entry(model.clone()).or_default();
        // The model may have come back since it was looked up.
        seen.absent = None;
        if let Some(place) = seen.versions.iter().position(|known| known == version) {
            seen.versions.remove(place);
        }
        seen.versions.push_back(version.to_owned());
        // The limit held before, so one removal is enough.
        (seen.versions.len() > VERSIONS_MAX).then(|| seen.versions.pop_front()).flatten()
    }

    /// Every model that has series.
    pub(crate) fn models(&self) -> Vec<ModelRef> {
        self.by_model.keys().cloned().collect()
    }

    /// Records that `model` exists.
    pub(crate) fn mark_present(&mut self, model: &ModelRef) {
        if let Some(seen) = self.by_model.get_mut(model) {
            seen.absent = None;
        }
    }

    /// Records that `model` is unknown at `now`. Returns its versions when it has been unknown for `keep`.
    pub(crate) fn mark_absent(
        &mut self,
        model: &ModelRef,
        now: Instant,
        keep: Duration,
    ) -> Option<Vec<String>> {
        let since = *self.by_model.get_mut(model)?.absent.get_or_insert(now);
        if now.duration_since(since) < keep {
            return None;
        }
        self.by_model.remove(model).map(|seen| seen.versions.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn model(name: &str) -> ModelRef {
        ModelRef::parse(name, "shop").unwrap()
    }

    #[test]
    fn beyond_the_limit_the_least_recently_used_version_is_removed() {
        let mut versions = SeriesVersions::default();
        for number in 0..VERSIONS_MAX {
            assert_eq!(versions.touch(&model("iris"), &number.to_string()), None);
        }
        assert_eq!(versions.touch(&model("iris"), "0"), None, "a known version");
        assert_eq!(versions.touch(&model("iris"), "new").as_deref(), Some("1"));
        assert_eq!(versions.touch(&model("wine"), "new"), None, "another model");
        for number in 0..10_000 {
            assert!(versions.touch(&model("iris"), &format!("made up {number}")).is_some());
        }
        assert_eq!(versions.by_model[&model("iris")].versions.len(), VERSIONS_MAX);
    }

    #[test]
    fn a_model_is_removed_after_it_was_absent_without_interruption() {
        let (mut versions, began) = (SeriesVersions::default(), Instant::now());
        versions.touch(&model("iris"), "1");
        versions.touch(&model("iris"), "2");
        versions.touch(&model("wine"), "1");
        let mut absent = |minutes| {
            let now = began + Duration::from_mins(minutes);
            versions.mark_absent(&model("iris"), now, HOUR)
        };
        assert_eq!((absent(0), absent(59)), (None, None));
        versions.mark_present(&model("iris"));
        let mut absent = |minutes| {
            let now = began + Duration::from_mins(minutes);
            versions.mark_absent(&model("iris"), now, HOUR)
        };
        assert_eq!((absent(70), absent(129)), (None, None), "the model existed in between");
        versions.touch(&model("iris"), "2");
        let mut absent = |minutes| {
            let now = began + Duration::from_mins(minutes);
            versions.mark_absent(&model("iris"), now, HOUR)
        };
        assert_eq!((absent(130), absent(189)), (None, None), "the model was used in between");
        assert_eq!(absent(190), Some(vec!["1".to_owned(), "2".to_owned()]));
        assert_eq!(absent(191), None, "its series are gone");
        assert_eq!(versions.models(), [model("wine")]);
    }
}
