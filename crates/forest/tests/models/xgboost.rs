//! Files of `XGBoost`.

use canopy_forest::read::error::Limits;
use canopy_forest::read::model::{Input, InputKind, Link, Output};
use canopy_forest::read::reader;

use crate::golden::{check, file, model, names};

#[test]
fn every_model_gives_the_answers_of_the_library() {
    let endings = [".json", ".ubj"]
        .map(|ending| [names("library", "xgb_", ending), names("boosted", "xgboost_", ending)].concat());
    let names = endings.concat().into_iter().filter(|name| !name.contains("REFUSE")).collect::<Vec<_>>();
    assert_eq!(names.len(), 2 * 30);
    for name in names {
        check(&name);
    }
}

#[test]
fn the_json_and_the_binary_file_of_a_model_are_the_same_model() {
    for name in names("boosted", "xgboost_", ".ubj") {
        let (json, ubj) = (model(&name.replace(".ubj", ".json")).unwrap(), model(&name).unwrap());
        assert_eq!((json.inputs, json.model, json.link), (ubj.inputs, ubj.model, ubj.link), "{name}");
    }
}

#[test]
fn linear_boosters_and_vector_leaves_are_refused_by_name() {
    for (name, expected) in [
        (
            "library/xgb_gblinear_REFUSE.json",
            "XGBoost JSON file, gradient_booster: booster `gblinear` is not supported: train with booster gbtree or dart",
        ),
        (
            "library/xgb_gblinear_REFUSE.ubj",
            "XGBoost UBJ file, gradient_booster: booster `gblinear` is not supported: train with booster gbtree or dart",
        ),
        (
            "library/xgb_vector_leaf_REFUSE.ubj",
            "XGBoost UBJ file, tree 0: multi_strategy multi_output_tree, leaves with several numbers is not supported: \
             train with multi_strategy one_output_per_tree",
        ),
    ] {
        assert_eq!(model(name).unwrap_err().to_string(), expected);
    }
}

#[test]
fn objectives_without_answers_to_compare_with_are_refused_by_name() {
    let known = String::from_utf8(file("boosted/xgboost_quantile.json")).unwrap();
    for name in ["reg:expectileerror", "binary:hinge"] {
        let changed = known.replace("reg:quantileerror", name);
        let error = reader::read(changed.as_bytes(), &Limits::default()).unwrap_err().to_string();
        let expected = format!(
            "objective `{name}` is not supported: train with one of the objectives in docs/models.md"
        );
        assert!(error.ends_with(&expected), "{error}");
    }
}

#[test]
fn inputs_have_the_names_and_categories_of_the_training_table() {
    let model = model("boosted/xgboost_pandas.ubj").unwrap();
    let categories = |names: &[&str]| InputKind::Categorical {
        categories: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    let cities = categories(&["Bern", "New York", "Oslo", "Lodz"]);
    assert_eq!(model.inputs[1], Input { name: Some("city".to_owned()), kind: cities });
    assert_eq!(model.inputs[2], Input { name: Some("b".to_owned()), kind: InputKind::Numeric });
    assert_eq!(model.inputs[4].kind, categories(&["0", "10", "20"]));
    assert_eq!(model.link, Link::Logistic { scale: 1.0 });
    assert_eq!(model.output, Output::Classes(vec!["0".to_owned(), "1".to_owned()]));
}
