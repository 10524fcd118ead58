//! Files of `LightGBM`.

use canopy_forest::read::format::Format;
use canopy_forest::read::model::{Input, InputKind, Link, Output, Step};

use crate::golden::{check, model, names};

#[test]
fn every_model_gives_the_answers_of_the_library() {
    let names: Vec<_> = [names("library", "lgb_", ".txt"), names("boosted", "lightgbm_", ".txt")].concat();
    let names = names.into_iter().filter(|name| !name.contains("REFUSE")).collect::<Vec<_>>();
    assert_eq!(names.len(), 32);
    for name in names {
        check(&name);
    }
}

#[test]
fn a_linear_tree_is_refused_by_name() {
    assert_eq!(
        model("library/lgb_linear_tree_REFUSE.txt").unwrap_err().to_string(),
        "LightGBM text file, tree 0: linear_tree is not supported: train without linear_tree"
    );
}

#[test]
fn inputs_have_the_names_and_categories_of_the_training_table() {
    let model = model("boosted/lightgbm_pandas.txt").unwrap();
    let input = |name: &str, categories: Option<&[&str]>| Input {
        name: Some(name.to_owned()),
        kind: match categories {
            None => InputKind::Numeric,
            Some(names) => {
                InputKind::Categorical { categories: names.iter().map(|name| (*name).to_owned()).collect() }
            }
        },
    };
    let expected = [
        input("a", None),
        input("city", Some(&["Bern", "New York", "Oslo", "Łódź"])),
        input("b", None),
        input("c", None),
        input("size", Some(&["0", "10", "20"])),
    ];
    assert_eq!(model.inputs, expected);
    assert_eq!((model.format, model.link), (Format::LightGbm, Link::Logistic { scale: 1.0 }));
    assert_eq!(model.output, Output::Classes(vec!["0".to_owned(), "1".to_owned()]));
}

#[test]
fn zero_becomes_missing_in_the_columns_where_it_is() {
    let model = model("boosted/lightgbm_zero_as_missing.txt").unwrap();
    let largest = f64::from(1e-35_f32);
    assert!(
        matches!(&model.steps[..], [Step::ZeroToMissing { largest: found, .. }] if found.total_cmp(&largest).is_eq()),
        "{:?}",
        model.steps
    );
    assert_eq!(model.inputs[0], Input { name: None, kind: InputKind::Numeric });
}
