//! Which models and versions have series, and which of them must go: a version is a string that a pod says, and models
//! come and go, while a gateway may run for a year. Knows no metric; `metrics` removes what this module names.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use canopy_contract::names::ModelRef;
use tokio::time::Instant;

/// How many versions of a model have series: more than revisions of it are remembered, so that none is in use.
const VERSIONS_MAX: usize = 8;

/// The models and versions that have series.
#[derive(Default)]
pub(crate) struct SeriesVersions {
    by_model: HashMap<ModelRef, Seen>,
}

#[derive(Default)]
struct Seen {
    /// The one used last is at the back.
    versions: VecDeque<String>,
    /// Since when discovery does not know the model.
    absent: Option<Instant>,
}

impl SeriesVersions {
    /// A version of `model` is in use. The version whose series must go for it, where there are too many.
    pub(crate) fn touch(&mut self, model: &ModelRef, version: &str) -> Option<String> {
        let seen = self.by_model.entry(model.clone()).or_default();
        // It may have come back while it was asked about.
        seen.absent = None;
        if let Some(place) = seen.versions.iter().position(|known| known == version) {
            seen.versions.remove(place);
        }
        seen.versions.push_back(version.to_owned());
        // All are short of the limit by one before, so one that goes is enough.
        (seen.versions.len() > VERSIONS_MAX).then(|| seen.versions.pop_front()).flatten()
    }

    /// Every model that has series.
    pub(crate) fn models(&self) -> Vec<ModelRef> {
        self.by_model.keys().cloned().collect()
    }

    /// Discovery knows `model`.
    pub(crate) fn mark_present(&mut self, model: &ModelRef) {
        if let Some(seen) = self.by_model.get_mut(model) {
            seen.absent = None;
        }
    }

    /// Discovery does not know `model` at `now`. Its versions, all of whose series must go, once that is so for `keep`.
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
    fn of_many_versions_the_one_that_was_used_longest_ago_goes() {
        let mut versions = SeriesVersions::default();
        for number in 0..VERSIONS_MAX {
            assert_eq!(versions.touch(&model("iris"), &number.to_string()), None);
        }
        assert_eq!(versions.touch(&model("iris"), "0"), None, "it is known");
        assert_eq!(versions.touch(&model("iris"), "new").as_deref(), Some("1"));
        assert_eq!(versions.touch(&model("wine"), "new"), None, "another model");
        for number in 0..10_000 {
            assert!(versions.touch(&model("iris"), &format!("made up {number}")).is_some());
        }
        assert_eq!(versions.by_model[&model("iris")].versions.len(), VERSIONS_MAX);
    }

    #[test]
    fn a_model_goes_once_it_is_absent_for_long_enough_without_a_break() {
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
        assert_eq!((absent(70), absent(129)), (None, None), "it was there meanwhile");
        versions.touch(&model("iris"), "2");
        let mut absent = |minutes| {
            let now = began + Duration::from_mins(minutes);
            versions.mark_absent(&model("iris"), now, HOUR)
        };
        assert_eq!((absent(130), absent(189)), (None, None), "it was used meanwhile");
        assert_eq!(absent(190), Some(vec!["1".to_owned(), "2".to_owned()]));
        assert_eq!(absent(191), None, "it has none any more");
        assert_eq!(versions.models(), [model("wine")]);
    }
}
