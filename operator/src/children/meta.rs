//! Metadata common to the children of a model. The namespace is set when they are written.

use std::collections::BTreeMap;

use canopy_contract::names::ModelName;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::labels::{self, Labels};

/// The owner of the children.
#[derive(Clone, Copy, Debug)]
pub struct OwnerInfo<'a> {
    /// Name of the model.
    pub name: &'a ModelName,
    /// Uid of the model.
    pub uid: &'a str,
    /// Owner reference to the model.
    pub reference: &'a OwnerReference,
}

impl OwnerInfo<'_> {
    /// Metadata of the child `name`.
    pub fn child(&self, name: String, labels: Labels, annotations: BTreeMap<String, String>) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            owner_references: Some(vec![self.reference.clone()]),
            ..ObjectMeta::default()
        }
    }

    /// Labels of objects shared by all revisions.
    pub fn labels(&self) -> Labels {
        labels::of_model(self.name, self.uid)
    }

    /// Labels of objects of one revision.
    pub fn labels_of_revision(&self, version: &str, revision: &str) -> Labels {
        labels::of_revision(self.name, self.uid, version, revision)
    }

    /// Selects the pods of all revisions.
    pub fn pods(&self) -> Labels {
        labels::pods_of_model(self.uid)
    }

    /// Selects the pods of one revision.
    pub fn pods_of(&self, revision: &str) -> Labels {
        labels::pods_of_revision(self.uid, revision)
    }
}
