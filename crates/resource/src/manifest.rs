//! Reads manifests with `PredictorModel`s and `ConfigMap`s, as `kubectl apply` takes them, without a cluster.
//!
//! Objects of other kinds are errors, because nothing here would act on them.

use std::collections::BTreeMap;
use std::fmt;

use canopy_contract::names::DEFAULT_NAMESPACE;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::document::{self, Document};
use crate::field_error::{FIELD_ERRORS_MAX, FieldError, entry};
use crate::model::PredictorModel;
use crate::{rules, schema};

/// The model that is served where no manifest is given.
pub const DEMO: &str = include_str!("../../../deploy/samples/demo.yaml");

const MODEL_VERSION: &str = "canopy.rs/v1alpha1";
const CORE_VERSION: &str = "v1";

/// Models, and the data they may refer to.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    /// The models, in the order of the text.
    pub models: Vec<PredictorModel>,
    /// The data.
    pub config_maps: ConfigMaps,
}

impl Manifests {
    /// These and those of `more`; an object must not be in both.
    pub fn join(&mut self, more: Self) -> Result<(), Vec<FieldError>> {
        let mut twice = Vec::new();
        for model in more.models {
            twice.extend(self.add(model).err());
        }
        for config_map in more.config_maps.0.into_values() {
            twice.extend(self.config_maps.add(config_map).err());
        }
        if twice.is_empty() { Ok(()) } else { Err(twice) }
    }

    fn add(&mut self, model: PredictorModel) -> Result<(), FieldError> {
        let identity = |model: &PredictorModel| (namespace(model), model.name_any());
        if self.models.iter().any(|other| identity(other) == identity(&model)) {
            return Err(twice("PredictorModel", &model));
        }
        self.models.push(model);
        Ok(())
    }
}

/// `ConfigMap`s by namespace and name.
#[derive(Clone, Debug, Default)]
pub struct ConfigMaps(BTreeMap<(String, String), ConfigMap>);

impl ConfigMaps {
    /// One more, of another name than all before.
    pub fn add(&mut self, config_map: ConfigMap) -> Result<(), FieldError> {
        let identity = (namespace(&config_map), config_map.name_any());
        if self.0.contains_key(&identity) {
            return Err(twice("ConfigMap", &config_map));
        }
        self.0.insert(identity, config_map);
        Ok(())
    }

    /// The `ConfigMap` `name` in `namespace`.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&ConfigMap> {
        self.0.get(&(namespace.to_owned(), name.to_owned()))
    }
}

fn namespace<T: kube::Resource>(object: &T) -> String {
    object.meta().namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
}

fn twice<T: kube::Resource>(kind: &str, object: &T) -> FieldError {
    let (name, namespace) = (object.meta().name.clone().unwrap_or_default(), namespace(object));
    FieldError::at("metadata.name", format!("{kind} {name} in namespace {namespace} is given twice"))
}

/// Why manifests could not be read.
#[derive(Debug)]
pub enum ManifestError {
    /// The text is not YAML.
    Syntax(serde_saphyr::Error),
    /// It is YAML with faults: each with its line and the object it is in.
    Faults(Vec<Finding>),
}

/// A fault and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The line of the text.
    pub line: u64,
    /// The kind and the name of the object.
    pub object: String,
    /// The errors.
    pub fault: FieldError,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: {}", self.line, self.object, self.fault)
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(error) => {
                let error = error.without_snippet();
                if let serde_saphyr::Error::DuplicateMappingKey { key, location } = error {
                    let (line, column) = (location.line(), location.column());
                    let key = key.as_deref().unwrap_or("a key");
                    return write!(
                        f,
                        "line {line} column {column}: {key} is given twice in one object; remove one"
                    );
                }
                error.fmt(f)
            }
            Self::Faults(findings) => {
                let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
        }
    }
}

impl std::error::Error for ManifestError {}

/// Reads every document of `text`.
pub fn read(text: &str) -> Result<Manifests, ManifestError> {
    let mut manifests = Manifests::default();
    let mut findings = Vec::new();
    for document in document::read(text).map_err(ManifestError::Syntax)? {
        for (field, object) in objects(&document.value) {
            if let Err(faults) = read_object(object, &mut manifests) {
                let at = At { document: &document, field: &field, object: &object_name(object) };
                findings.extend(faults.into_iter().map(|fault| at.finding(fault)));
            }
        }
    }
    findings.sort_by_key(|finding: &Finding| finding.line);
    findings.truncate(FIELD_ERRORS_MAX);
    if findings.is_empty() { Ok(manifests) } else { Err(ManifestError::Faults(findings)) }
}

/// The objects of a document, each with the field it is in: those of a list, as `kubectl get -o yaml` writes one, or the
/// document itself.
fn objects(document: &Value) -> Vec<(String, &Value)> {
    match document["items"].as_array().filter(|_| is_list(document)) {
        Some(items) => items.iter().enumerate().map(|(index, item)| (entry("items", index), item)).collect(),
        None => vec![(String::new(), document)],
    }
}

fn is_list(object: &Value) -> bool {
    object["kind"].as_str().is_some_and(|kind| kind.ends_with("List"))
}

/// Where an object stands.
struct At<'a> {
    document: &'a Document,
    field: &'a str,
    object: &'a str,
}

impl At<'_> {
    fn finding(&self, fault: FieldError) -> Finding {
        let Self { document, field, object } = self;
        let line = match (field.is_empty(), fault.field.is_empty()) {
            (true, _) => document.line(&fault.field),
            (false, true) => document.line(field),
            (false, false) => document.line(&format!("{field}.{}", fault.field)),
        };
        Finding { line, object: (*object).to_owned(), fault }
    }
}

fn read_object(document: &Value, manifests: &mut Manifests) -> Result<(), Vec<FieldError>> {
    let said = |field: &str| document[field].as_str().unwrap_or_default();
    match (said("apiVersion"), said("kind")) {
        // A laptop has no namespaces, so a Namespace needs no action.
        (CORE_VERSION, "Namespace") => Ok(()),
        (MODEL_VERSION, "PredictorModel") => {
            let mut document = document.clone();
            // Only the operator writes it, and nothing here reads it.
            if let Some(members) = document.as_object_mut() {
                members.remove("status");
            }
            let model = typed(&document, &schema::PREDICTOR_MODEL)?;
            let broken = rules::check(&model);
            if broken.is_empty() { manifests.add(model).map_err(|fault| vec![fault]) } else { Err(broken) }
        }
        (CORE_VERSION, "ConfigMap") => {
            let config_map = typed(document, &schema::CONFIG_MAP)?;
            let broken = rules::check_config_map(&config_map);
            if !broken.is_empty() {
                return Err(broken);
            }
            manifests.config_maps.add(config_map).map_err(|fault| vec![fault])
        }
        (other, "PredictorModel") => Err(vec![wrong_version(other, MODEL_VERSION)]),
        (other, "ConfigMap") => Err(vec![wrong_version(other, CORE_VERSION)]),
        _ if is_list(document) && !document["items"].is_array() => {
            Err(vec![FieldError::at("items", "is required in a List, and must be a list of objects")])
        }
        _ if is_list(document) => Err(vec![FieldError::at(
            "kind",
            "a List in a List is not read; put its items into the outer one",
        )]),
        (_, "") => Err(vec![FieldError::at("kind", "is required: PredictorModel or ConfigMap")]),
        (_, other) => {
            let why = format!("{other} is not read here; only PredictorModel, ConfigMap and Namespace are");
            Err(vec![FieldError::at("kind", why)])
        }
    }
}

fn wrong_version(found: &str, expected: &str) -> FieldError {
    FieldError::at("apiVersion", format!("must be {expected}, but is {found:?}"))
}

fn typed<T: DeserializeOwned>(document: &Value, schema: &Value) -> Result<T, Vec<FieldError>> {
    let faults = schema::check(document, schema);
    if !faults.is_empty() {
        return Err(faults);
    }
    T::deserialize(document).map_err(|error| vec![FieldError::at("", error.to_string())])
}

fn object_name(document: &Value) -> String {
    let said = |value: &Value| value.as_str().map(str::to_owned);
    let kind = said(&document["kind"]).unwrap_or_else(|| "document".to_owned());
    match said(&document["metadata"]["name"]) {
        Some(name) => format!("{kind} {name}"),
        None => kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let said = read(text).map_or_else(|error| error.to_string(), |_| String::new());
        assert_eq!(said, expected);
    }

    const DATA: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: v}\n";

    #[test]
    fn the_sample_manifests_are_accepted() {
        let demo = read(DEMO).unwrap();
        assert_eq!(demo.models.iter().map(kube::ResourceExt::name_any).collect::<Vec<_>>(), ["demo"]);
        let mut both = read(include_str!("../../../deploy/samples/iris.yaml")).unwrap();
        let table = both.config_maps.get("default", "iris-data").unwrap().data.as_ref().unwrap();
        assert_eq!(table["iris.csv"].lines().count(), 151);
        both.join(demo).unwrap();
        assert_eq!(both.models.iter().map(kube::ResourceExt::name_any).collect::<Vec<_>>(), ["iris", "demo"]);
    }

    #[test]
    fn text_without_a_document_has_no_models() {
        check("", "");
        check("# nothing\n---\n---\n", "");
        assert!(read("---\n").unwrap().models.is_empty());
    }

    #[test]
    fn every_error_of_every_document_is_reported_with_its_line() {
        check(
            "kind: Secret\n---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  nmae: a\ndata:\n  k: 1\n---\n[1]\n",
            "line 1: Secret: kind: Secret is not read here; only PredictorModel, ConfigMap and Namespace are\n\
             line 7: ConfigMap a: metadata.nmae: unknown field; known fields are annotations, \
             creationTimestamp, deletionGracePeriodSeconds, deletionTimestamp, finalizers, generateName, \
             generation, labels, managedFields, name, namespace, ownerReferences, resourceVersion, selfLink, uid\n\
             line 9: ConfigMap a: data.k: must be text, in quotes where it looks like something else, but is 1\n\
             line 11: document: kind: is required: PredictorModel or ConfigMap",
        );
        check(
            &DEMO.replace("trees: 100", "trees: 0"),
            "line 14: PredictorModel demo: spec.train.algorithm.randomForest.trees: must be at least 1, but is 0",
        );
    }

    #[test]
    fn a_list_without_items_or_in_another_list_is_refused() {
        let expected = "line 1: List: items: is required in a List, and must be a list of objects";
        for items in ["", "items:\n", "items: {}\n"] {
            let text = format!("kind: List\napiVersion: v1\n{items}");
            let said = read(&text).unwrap_err().to_string();
            assert!(
                said.ends_with("List: items: is required in a List, and must be a list of objects"),
                "{said}"
            );
        }
        check("kind: List\n", expected);
        check(
            "kind: List\nitems:\n- {kind: List, items: []}\n",
            "line 3: List: kind: a List in a List is not read; put its items into the outer one",
        );
    }

    #[test]
    fn a_key_that_is_given_twice_is_named() {
        check("kind: a\nkind: b\n", "line 2 column 1: kind is given twice in one object; remove one");
    }

    #[test]
    fn entries_without_a_name_are_not_compared() {
        let features = "features: [a, b]\n";
        let (before, rest) = DEMO.split_once("features:\n").unwrap();
        let after: String = rest.lines().skip_while(|line| line.trim_start().starts_with("- ")).collect();
        let said = read(&format!("{before}{features}{after}")).unwrap_err().to_string();
        assert!(said.contains("spec.features[1]: must be an object") && !said.contains("null"), "{said}");
    }

    #[test]
    fn the_output_of_kubectl_get_is_accepted() {
        let indented =
            |text: &str| text.lines().map(|line| format!("  {line}\n")).collect::<Vec<_>>().concat();
        let item = |text: &str| indented(text).replacen("  apiVersion", "- apiVersion", 1);
        let model = DEMO.split_once("apiVersion").map(|(_, rest)| format!("apiVersion{rest}")).unwrap();
        let status = "status:\n  observedGeneration: 1\n  ofALaterVersion: 1\n";
        let list = format!(
            "apiVersion: v1\nitems:\n{}{}kind: List\nmetadata:\n  resourceVersion: \"\"\n",
            item(DATA),
            item(&format!("{}\n{status}", model.trim_end())),
        );
        let found = read(&list).unwrap();
        assert_eq!(found.models.iter().map(kube::ResourceExt::name_any).collect::<Vec<_>>(), ["demo"]);
        assert!(found.config_maps.get("default", "a").is_some());

        let fault = "spec.train.algorithm.randomForest.trees: must be at least 1, but is 0";
        let line = list.lines().position(|line| line.contains("trees: 100")).unwrap() + 1;
        check(&list.replace("trees: 100", "trees: 0"), &format!("line {line}: PredictorModel demo: {fault}"));
        check(
            "kind: List\napiVersion: v1\nitems:\n- kind: Secret\n- 1\n",
            "line 4: Secret: kind: Secret is not read here; only PredictorModel, ConfigMap and Namespace are\n\
             line 5: document: kind: is required: PredictorModel or ConfigMap",
        );
    }

    #[test]
    fn a_namespace_in_a_manifest_is_accepted() {
        let text = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n---\n{DATA}");
        assert!(read(&text).unwrap().config_maps.get("default", "a").is_some());
    }

    #[test]
    fn objects_that_the_api_server_refuses_are_refused() {
        let why = "must have lower-case letters, digits and '-' only, begin and end with a letter or a digit, and be \
                   at most 63 characters long, but is \"Bad_NS\"";
        check(
            &DEMO.replace("  name: demo\n", "  name: demo\n  namespace: Bad_NS\n"),
            &format!("line 8: PredictorModel demo: metadata.namespace: {why}"),
        );
        check(
            &DATA.replace("{name: a}", "{name: a, namespace: Bad_NS}"),
            &format!("line 3: ConfigMap a: metadata.namespace: {why}"),
        );
        let sized = |bytes: usize| DATA.replace("k: v", &format!("k: {}, l: v", "x".repeat(bytes - 1)));
        check(&sized(1 << 20), "");
        check(
            &sized((1 << 20) + 1),
            "line 4: ConfigMap a: data: has 1048577 bytes, but Kubernetes takes at most 1048576 in a ConfigMap: put the \
             file on a web server and name it by uri",
        );
    }

    #[test]
    fn an_object_is_given_once() {
        let fault = "metadata.name: ConfigMap a in namespace default is given twice";
        check(&format!("{DATA}---\n{DATA}"), &format!("line 8: ConfigMap a: {fault}"));
        let mut manifests = read(DATA).unwrap();
        let faults = manifests.join(read(DATA).unwrap()).unwrap_err();
        assert_eq!(faults.iter().map(ToString::to_string).collect::<Vec<_>>(), [fault]);
        manifests.join(read(&DATA.replace("{name: a}", "{name: a, namespace: shop}")).unwrap()).unwrap();

        let mut demo = read(DEMO).unwrap();
        let faults = demo.join(read(DEMO).unwrap()).unwrap_err();
        assert_eq!(
            faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["metadata.name: PredictorModel demo in namespace default is given twice"]
        );
    }
}
