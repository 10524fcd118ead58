//! Damaged and malicious files of skops and folders of `MLflow`.

use std::fmt::Write as _;

use canopy_forest::read::error::Limits;
use canopy_forest::read::skops;
use miniz_oxide::inflate::decompress_to_vec;
use proptest::prelude::*;

use crate::check::{check, zip};
use crate::golden::file;

const FILES: [&str; 6] = [
    "skops/columns_missing_category.skops",
    "skops/hist_categories.skops",
    "skops/gb_binary.skops",
    "skops/rf_classifier.skops",
    "skops/lightgbm_classifier.skops",
    "skops/logistic_multinomial.skops",
];

/// Small enough that a file which is refused only at a limit costs little.
const LIMITS: Limits = Limits { bytes: 1 << 20, trees: 1000, nodes: 100_000, numbers: 1 << 20, depth: 16 };

type Entries = Vec<(String, Vec<u8>)>;

/// The entries of an archive that Python wrote.
fn unzip(bytes: &[u8]) -> Entries {
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let mut at = 0;
    let mut entries = Entries::new();
    while bytes[at..].starts_with(b"PK\x03\x04") {
        let (is_deflated, packed, name) = (bytes[at + 8] == 8, number(at + 18), number(at + 26) & 0xffff);
        let start = at + 30 + name + (number(at + 26) >> 16);
        let content = &bytes[start..start + packed];
        let content = if is_deflated { decompress_to_vec(content).unwrap() } else { content.to_vec() };
        entries.push((String::from_utf8(bytes[at + 30..at + 30 + name].to_vec()).unwrap(), content));
        at = start + packed;
    }
    entries
}

fn archive(entries: &Entries) -> Vec<u8> {
    let entries: Vec<_> = entries.iter().map(|(name, bytes)| (name.as_bytes(), &bytes[..])).collect();
    zip(&entries)
}

fn error(bytes: &[u8]) -> String {
    skops::read(bytes, &LIMITS).unwrap_err().to_string()
}

/// A file whose schema is this text.
fn with_schema(schema: &str) -> Vec<u8> {
    zip(&[(b"schema.json", schema.as_bytes())])
}

/// A file with the first of `from` in its schema replaced.
fn changed(name: &str, from: &str, to: &str) -> Vec<u8> {
    let mut entries = unzip(&file(name));
    let (_, schema) = entries.iter_mut().find(|(name, _)| name == "schema.json").unwrap();
    let text = String::from_utf8(schema.clone()).unwrap();
    assert!(text.contains(from), "{from}");
    *schema = text.replacen(from, to, 1).into_bytes();
    archive(&entries)
}

#[test]
fn an_archive_that_is_packed_again_is_the_same_model() {
    for name in FILES {
        let packed = archive(&unzip(&file(name)));
        let [found, expected] =
            [packed, file(name)].map(|bytes| format!("{:?}", skops::read(&bytes, &LIMITS).unwrap()));
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn a_truncated_archive_is_refused() {
    for name in FILES {
        let bytes = file(name);
        for length in (0..bytes.len()).step_by(211).chain([bytes.len() - 1]) {
            skops::read(&bytes[..length], &LIMITS).expect_err(name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_bytes_of_an_archive_are_noticed_or_do_not_matter(
        index in 0..FILES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = file(FILES[index]);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        check("skops", &bytes);
    }

    #[test]
    fn damaged_entries_give_a_model_or_an_error(
        index in 0..FILES.len(),
        changes in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..8),
        dropped in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut entries = unzip(&file(FILES[index]));
        for (entry, at, byte) in changes {
            let entry = entry.index(entries.len());
            let content = &mut entries[entry].1;
            let at = at.index(content.len());
            content[at] = byte;
        }
        if let Some(dropped) = dropped {
            entries.remove(dropped.index(entries.len()));
        }
        check("skops", &archive(&entries));
    }

    #[test]
    fn a_changed_value_of_the_schema_gives_a_model_or_an_error(
        index in 0..FILES.len(),
        which in any::<prop::sample::Index>(),
        value in prop::sample::select(vec![
            "-1", "0", "1", "7", "4294967295", "18446744073709551615", "1e308", "NaN", "-Infinity", "null", "\\\"x\\\"", "",
        ]),
    ) {
        let mut entries = unzip(&file(FILES[index]));
        let schema = &mut entries.last_mut().unwrap().1;
        let text = String::from_utf8(schema.clone()).unwrap();
        let start = "\"content\": \"";
        let found: Vec<_> = text.match_indices(start).map(|(at, _)| at + start.len()).collect();
        let at = found[which.index(found.len())];
        let end = text[at..].find("\",\n").unwrap() + at;
        *schema = format!("{}{value}{}", &text[..at], &text[end..]).into_bytes();
        check("skops", &archive(&entries));
    }
}

#[test]
fn an_archive_that_lies_is_refused_with_its_reason() {
    let good = with_schema("{}");
    let directory = good.len() - 22 - 46 - 11;
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let both = |at: usize, bytes: &[u8]| {
        let mut changed = with(at, bytes);
        changed[directory + at + 2..directory + at + 2 + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let sizes = [[0xff_u8, 0xff, 0xff, 0x7f]; 2].concat();
    for (bytes, expected) in [
        (vec![], "the zip archive has no directory"),
        (both(14, &[1, 2, 3, 4]), "entry \"schema.json\" does not have its checksum"),
        (both(8, &[8]), "entry \"schema.json\" does not unpack to the size that it states"),
        (both(8, &[12]), "compression method 12 of entry \"schema.json\" is not supported"),
        (both(6, &[1]), "entry \"schema.json\", which is encrypted, is not supported"),
        (both(18, &sizes), "unpacked bytes must be at most 1048576"),
        (with(directory + 24, &[9]), "entry \"schema.json\" states two sizes"),
        (with(directory + 42, &[1]), "entry \"schema.json\" is not where the directory says"),
        (with(30, b"x"), "entry \"schema.json\" is not where the directory says"),
        (with(good.len() - 12, &[7]), "the directory of the archive is shorter than it states"),
        (with(good.len() - 6, &[0xff; 4]), "a zip64 archive is not supported"),
        (with(good.len() - 6, &[200]), "the directory is outside the zip archive"),
        (
            zip(&[(b"schema.json", b"{}"), (b"schema.json", b"{}")]),
            "entry \"schema.json\" is in the archive twice",
        ),
        (zip(&[(b"../schema.json", b"{}")]), "entry \"../schema.json\" has a name that leaves the archive"),
        (zip(&[(b"/etc/passwd", b"{}")]), "entry \"/etc/passwd\" has a name that leaves the archive"),
        (zip(&[(b"\xff", b"{}")]), "the name of an entry is not UTF-8"),
        (zip(&[(b"a.npy", b"")]), "entry \"schema.json\" is not in the archive"),
    ] {
        let found = error(&bytes);
        assert!(found.starts_with(&format!("skops file: {expected}")), "{found}");
    }
}

#[test]
fn a_schema_that_nests_or_repeats_without_bound_is_refused() {
    let deep = format!("{{\"content\": {}", "[".repeat(100_000));
    let wide = format!("[{}0]", "0,".repeat(200_000));
    let repeated = "{\"__class__\": \"a\", \"__class__\": \"b\"}";
    for (schema, expected) in [
        (&deep[..], "values in schema.json must be at most 50000"),
        (&wide, "values in schema.json must be at most 50000"),
        (&"[".repeat(40_000), "schema.json: recursion limit exceeded"),
        (repeated, "schema.json: a key is repeated"),
        ("[]", "schema.json has a value where an object is expected"),
    ] {
        let found = error(&with_schema(schema));
        assert!(found.starts_with(&format!("skops file: {expected}")), "{found}");
    }
}

/// A description of an object of scikit-learn.
fn object(path: &str, attributes: &str) -> String {
    let (module, class) = path.rsplit_once('.').unwrap();
    let version = scalar("\\\"1.9.1\\\"");
    format!(
        "{{\"__class__\": \"{class}\", \"__module__\": \"{module}\", \"__loader__\": \"ObjectNode\", \"content\": {{\
         \"__loader__\": \"DictNode\", \"content\": {{{attributes}, \"_sklearn_version\": {version}}}}}}}"
    )
}

fn scalar(json: &str) -> String {
    format!("{{\"__loader__\": \"JsonNode\", \"content\": \"{json}\"}}")
}

fn array(file: &str) -> String {
    format!("{{\"__loader__\": \"NdArrayNode\", \"type\": \"numpy\", \"file\": \"{file}\"}}")
}

fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}");
    [b"\x93NUMPY\x01\0", &u16::try_from(header.len()).unwrap().to_le_bytes()[..], header.as_bytes(), data]
        .concat()
}

/// A forest of `count` trees, which all have these children.
fn forest(count: usize, left: &[i64], right: &[i64]) -> Vec<u8> {
    let tree = format!(
        "{{\"__class__\": \"Tree\", \"__loader__\": \"TreeNode\", \"content\": {{\"__loader__\": \"DictNode\", \
         \"content\": {{\"nodes\": {}, \"values\": {}}}}}}}",
        array("n"),
        array("v")
    );
    let tree = object("sklearn.tree._classes.DecisionTreeRegressor", &format!("\"tree_\": {tree}"));
    let mut trees = String::new();
    for index in 0..count {
        write!(trees, "{}{tree}", if index == 0 { "" } else { "," }).unwrap();
    }
    let attributes = format!(
        "\"n_features_in_\": {0}, \"n_outputs_\": {0}, \"estimators_\": {{\"__loader__\": \"ListNode\", \"content\": [{trees}]}}",
        scalar("1")
    );
    let schema = object("sklearn.ensemble._forest.RandomForestRegressor", &attributes);
    let mut nodes = Vec::new();
    for (left, right) in left.iter().zip(right) {
        nodes.extend([&left.to_le_bytes()[..], &right.to_le_bytes(), &[0; 8 + 8 + 1]].concat());
    }
    let descr = "[('left_child', '<i8'), ('right_child', '<i8'), ('feature', '<i8'), ('threshold', '<f8'), \
                 ('missing_go_to_left', '|u1')]";
    let nodes = npy(descr, &format!("({},)", left.len()), &nodes);
    let values = npy("'<f8'", &format!("({}, 1, 1)", left.len()), &vec![0; 8 * left.len()]);
    zip(&[(b"schema.json", schema.as_bytes()), (b"n", &nodes), (b"v", &values)])
}

#[test]
fn trees_with_cycles_and_too_many_trees_are_refused() {
    skops::read(&forest(2, &[1, -1, -1], &[2, -1, -1]), &LIMITS).unwrap();
    let place = "skops file, RandomForestRegressor: ";
    for (bytes, expected) in [
        (forest(1, &[0, -1, -1], &[2, -1, -1]), "node 0 is reached by two paths"),
        (forest(1, &[1, 0, -1], &[2, 2, -1]), "node 0 is reached by two paths"),
        (forest(1, &[1, -1, -1], &[1, -1, -1]), "node 1 is reached by two paths"),
        (forest(1, &[1, -1, -1], &[9, -1, -1]), "node 9 is referred to, but the tree has 3 nodes"),
        (forest(1, &[1, -1, -1], &[-7, -1, -1]), "a node has a child with the index -7"),
        (forest(1, &[], &[]), "node 0 is referred to, but the tree has 0 nodes"),
        (forest(1001, &[-1], &[-1]), "trees must be at most 1000, got 1001"),
    ] {
        let found = error(&bytes);
        assert!(found.starts_with(&format!("{place}{expected}")), "{found}");
    }
    let many = skops::read(&forest(2000, &[-1], &[-1]), &LIMITS).unwrap_err().to_string();
    assert!(many.contains("must be at most"), "{many}");
}

#[test]
fn one_array_that_many_objects_refer_to_is_not_unpacked_without_bound() {
    let left: Vec<i64> =
        (0..1500).map(|index| if index % 2 == 0 && index < 1498 { index + 1 } else { -1 }).collect();
    let right: Vec<i64> =
        (0..1500).map(|index| if index % 2 == 0 && index < 1498 { index + 2 } else { -1 }).collect();
    let found = error(&forest(100, &left, &right));
    assert!(found.contains("unpacked bytes must be at most 1048576, got 1048577"), "{found}");
}

#[test]
fn a_file_of_another_version_and_a_class_of_another_library_are_refused() {
    let name = "skops/logistic_binary.skops";
    let save = "save the model with scikit-learn 1.3 to 1.9, or convert it to ONNX with skl2onnx";
    for version in ["1.2.2", "1.10.0", "2.0.0", "x"] {
        assert_eq!(
            error(&changed(name, "\\\"1.9.1\\\"", &format!("\\\"{version}\\\""))),
            format!("skops file, LogisticRegression: scikit-learn {version} is not supported: {save}")
        );
    }
    let found = error(&changed(name, "\"sklearn.linear_model._logistic\"", "\"os\""));
    assert!(
        found.starts_with("skops file, LogisticRegression: os.LogisticRegression is not supported"),
        "{found}"
    );
    let found = error(&changed(name, "\"sklearn.linear_model._logistic\"", "\"xgboost.sklearn\""));
    assert!(found.contains("save it with model.save_model(\"model.json\")"), "{found}");
}
