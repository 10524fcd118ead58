//! Where the files of a model are: a table, a model file.
#![expect(unreachable_pub, reason = "the derived schemas repeat the public types inside functions")]
#![expect(clippy::doc_markdown, reason = "kubectl explain shows these comments as they are")]

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A CEL rule of the API server and its message; `rules` checks the same without CEL.
pub(crate) type Rule = (&'static str, &'static str);

/// The longest name of a feature, a class, a category or a column.
pub(crate) const LABEL_MAX: u32 = 128;
const URI_MAX: u32 = 2048;
/// A SHA-256 in hexadecimal.
const SHA256_DIGITS: u32 = 64;
/// The longest name of a ConfigMap and of a key in it, as Kubernetes has it.
const CONFIG_MAP_NAME_MAX: u32 = 253;
const CONFIG_MAP_NAME_PATTERN: &str = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
const CONFIG_MAP_KEY_PATTERN: &str = "^[-._a-zA-Z0-9]+$";

pub(crate) const ONE_KIND_OF_SOURCE: Rule = (
    "[has(self.configMap), has(self.uri)].filter(given, given).size() == 1",
    "exactly one of configMap and uri must be given",
);
pub(crate) const URI_IS_HTTP: Rule = (
    "!has(self.uri) || self.uri.matches('^https?://[^/?#][!-~]*$')",
    "uri must begin with https:// or http://, name a host and have no spaces",
);
pub(crate) const URI_HAS_A_DIGEST: Rule = (
    "has(self.uri) == has(self.sha256)",
    "sha256 must be given with uri, and only with it: it is what sha256sum prints for the file",
);
pub(crate) const SHA256_IS_HEXADECIMAL: Rule = (
    "!has(self.sha256) || self.sha256.matches('^[0-9a-f]{64}$')",
    "sha256 must be 64 of the digits 0-9 and a-f, as sha256sum prints them",
);

/// A CSV table with a header.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Csv {
    /// Where the table is. Set exactly one of configMap and uri.
    pub source: Source,
    /// The column to predict.
    #[schemars(length(min = 1, max = LABEL_MAX))]
    pub target: String,
}

/// Where a file is.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = ONE_KIND_OF_SOURCE,
    validation = URI_IS_HTTP,
    validation = URI_HAS_A_DIGEST,
    validation = SHA256_IS_HEXADECIMAL
)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// A key of a ConfigMap in the namespace of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ConfigMapKey")]
    pub config_map: Option<ConfigMapKey>,
    /// An https:// or http:// address that the pods can reach. Users who can read the model can read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = URI_MAX))]
    pub uri: Option<String>,
    /// The SHA-256 of the file at the uri, as sha256sum prints it. Required with uri, and only allowed with it. A file
    /// with another digest is refused. A new digest creates a new revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = SHA256_DIGITS))]
    pub sha256: Option<String>,
}

/// A key of a ConfigMap.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKey {
    /// The name of the ConfigMap.
    #[schemars(length(min = 1, max = CONFIG_MAP_NAME_MAX), regex(pattern = CONFIG_MAP_NAME_PATTERN))]
    pub name: String,
    /// The key in its data, or in its binaryData if the file is a model.
    #[schemars(length(min = 1, max = CONFIG_MAP_NAME_MAX), regex(pattern = CONFIG_MAP_KEY_PATTERN))]
    pub key: String,
}
