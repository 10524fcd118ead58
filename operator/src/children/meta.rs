//! The metadata that the children of a model have in common.
//!
//! Comes in: the model's name, uid and owner reference. Goes out: metadata. Never: a namespace; the one who
//! writes knows it.

use std::collections::BTreeMap;

use canopy_contract::names::ModelName;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::labels::{self, Labels};

/// Whose children they are.
#[derive(Clone, Copy, Debug)]
pub struct OwnerInfo<'a> {
    /// The model's name.
    pub name: &'a ModelName,
    /// Its uid.
    pub uid: &'a str,
    /// The reference with which a child names it.
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

    /// The labels of what all revisions share.
    pub fn labels(&self) -> Labels {
        labels::of_model(self.name, self.uid)
    }

    /// The labels of what belongs to one revision.
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
