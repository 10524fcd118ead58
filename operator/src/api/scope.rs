//! The namespaces that one controller works in.

use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};

/// What is watched: one namespace, or all of them. Nothing of a model is outside its namespace, so that each scope has
/// stores, queues and passes of its own.
#[derive(Clone)]
pub struct Scope {
    /// Which client watches.
    pub client: Client,
    /// The namespace; all of them where there is none.
    pub namespace: Option<String>,
}

impl Scope {
    /// The objects of a kind in this scope.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }
}
