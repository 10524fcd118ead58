//! Artifacts: round trip, format 2, and every kind of damage.

use canopy_contract::rows::Rows;
use canopy_forest::data::samples::Samples;
use canopy_forest::ensemble::forest::{Builder, Node};
use canopy_forest::ensemble::form::Ensemble;
use canopy_forest::scale::Scaler;
use canopy_predictor::artifact::{Artifact, ArtifactError};
use canopy_predictor::baseline::reference::Reference;
use canopy_predictor::engine::payload::Payload;
use canopy_predictor::engine::training::Trainer;
use canopy_predictor::training::prepare::prepare;

use crate::harness::synthetic;

fn artifact() -> Vec<u8> {
    prepare(&synthetic(), Trainer::Native, &|_, _| ()).unwrap().artifact
}

#[test]
fn it_is_written_and_read_as_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.canopy");
    let artifact = Artifact::decode(&artifact()).unwrap();
    artifact.write(&path).unwrap();
    assert_eq!(Artifact::read(&path).unwrap(), artifact);
}

/// A row, and the answer of the program that wrote the file of format 2.
#[derive(serde::Deserialize)]
struct Golden {
    features: Vec<f64>,
    prediction: u32,
    probabilities: Vec<f64>,
}

#[test]
fn a_file_of_format_2_is_read_and_gives_the_answers_of_the_program_that_wrote_it() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/artifact");
    let bytes = std::fs::read(format!("{folder}/format2.canopy")).unwrap();
    let golden: Vec<Golden> =
        serde_json::from_slice(&std::fs::read(format!("{folder}/format2.json")).unwrap()).unwrap();
    assert_eq!((bytes[8..12].to_vec(), golden.len()), (2_u32.to_le_bytes().to_vec(), 30));
    let old = Artifact::decode(&bytes).unwrap();
    let new = Artifact::decode(&old.encode().unwrap()).unwrap();
    assert_eq!(new, old);
    let rows = Rows::instances(golden.iter().map(|golden| &golden.features));
    for artifact in [old, new] {
        let model = artifact.load();
        let (answers, probabilities) = (model.predict(&rows).unwrap(), model.outputs(&rows).unwrap());
        for ((golden, answer), probabilities) in golden.iter().zip(answers).zip(probabilities) {
            assert_eq!(answer.class(), Some(golden.prediction), "{:?}", golden.features);
            assert_eq!(probabilities, golden.probabilities, "{:?}", golden.features);
        }
    }
}

#[test]
fn a_payload_of_an_unknown_kind_is_refused_by_name() {
    let error = Payload::decode("tensors", b"").unwrap_err().to_string();
    assert_eq!(
        error,
        "a model of kind \"tensors\", but this program has engines for the kinds \"trees\", \"linear\" and \"network\" \
         only: use a newer version"
    );
}

#[test]
fn a_model_with_a_scaler_answers_as_before_scalers_were_left_out() {
    // Earlier versions standardised before they trained; such artifacts have offsets and scales.
    let forest = {
        let mut builder = Builder::new(1, 2);
        let [left, right] = [[1.0, 0.0], [0.25, 0.75]].map(|shares| builder.distribution(&shares));
        builder.push(vec![
            Node::Split { feature: 0, threshold: 0.5, left: 1, right: 2 },
            Node::Leaf { distribution: left },
            Node::Leaf { distribution: right },
        ]);
        builder.finish().unwrap()
    };
    let card = serde_json::from_value(serde_json::json!({
        "model": "demo", "version": "1", "revision": "6f3a9c1e", "features": [{"name": "a"}], "classes": [0, 1],
        "quality": {"metric": "Accuracy", "value": 1.0, "samples": 1},
    }));
    let train = Samples::from_csv(b"a,class\n10,0\n20,1\n", "class").unwrap();
    let reference = Reference::learn(&train, &[0], vec![1, 1]);
    let scaler = Scaler::new(vec![10.0], vec![0.1]).unwrap();
    let bytes =
        Artifact::new(card.unwrap(), scaler, reference, Payload::Trees(Ensemble::try_from(forest).unwrap()))
            .unwrap()
            .encode()
            .unwrap();
    assert_eq!(bytes[8..12], 3_u32.to_le_bytes());
    let model = Artifact::decode(&bytes).unwrap().load();
    let answers = model.outputs(&Rows::instances([[15.0], [15.1]])).unwrap();
    assert_eq!(answers, [[1.0, 0.0], [0.25, 0.75]]);
}

#[test]
fn a_flipped_bit_anywhere_is_an_error_for_the_part_it_hit() {
    let good = artifact();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        let error = Artifact::decode(&bad).unwrap_err();
        let named = match at {
            0..=7 => matches!(error, ArtifactError::Signature),
            // A flipped bit in byte 8 makes format 2, which is read, too, but whose checksum covers other bytes.
            9..=11 => matches!(error, ArtifactError::Format(_)),
            _ => matches!(error, ArtifactError::Checksum),
        };
        assert!(named, "byte {at}: {error}");
    }
}

#[test]
fn an_artifact_of_another_format_says_what_to_do() {
    for format in [1, 4] {
        let mut other = artifact();
        other[8] = format;
        let expected = format!(
            "artifact has format {format}, but this program reads formats 2 to 3: prepare it again with this version"
        );
        assert_eq!(Artifact::decode(&other).unwrap_err().to_string(), expected);
    }
}

#[test]
fn the_distribution_of_the_training_rows_is_kept_with_the_model() {
    let artifact = Artifact::decode(&artifact()).unwrap();
    let reference = artifact.reference().unwrap();
    // Of 200 rows 160 are trained on, which is enough for eight bins of each feature.
    assert_eq!(reference.features().iter().map(|bins| bins.counts().len()).collect::<Vec<_>>(), [8; 4]);
    assert!(reference.features().iter().all(|bins| bins.counts() == [20; 8]), "{reference:?}");
    assert_eq!(reference.classes().unwrap().iter().sum::<u64>(), 40);
}

#[test]
fn a_cut_or_a_tail_is_an_error() {
    let good = artifact();
    for length in 0..good.len() {
        let error = Artifact::decode(&good[..length]).unwrap_err();
        assert_eq!(matches!(error, ArtifactError::Cut(_)), length < 44, "{length} bytes: {error}");
    }
    let tail = Artifact::decode(&[&good[..], b"x"].concat()).unwrap_err();
    assert!(matches!(tail, ArtifactError::Checksum), "{tail}");
}

#[test]
fn content_that_is_no_model_is_an_error_even_with_a_right_checksum() {
    use sha2::{Digest as _, Sha256};
    let good = artifact();
    let seal = |content: &[u8]| {
        [&good[..12], &Sha256::digest([&good[8..12], content].concat())[..], content].concat()
    };
    assert!(Artifact::decode(&seal(&good[44..])).is_ok(), "the seal itself is right");
    // Every seventh byte of the content, each bit of which means something else.
    for at in (44..good.len()).step_by(7) {
        let mut content = good[44..].to_vec();
        content[at - 44] ^= 0x80;
        // Some changes make another model; none may make a panic or a model that fails.
        if let Ok(artifact) = Artifact::decode(&seal(&content)) {
            let rows = Rows::single(vec![0.0; artifact.card().features.len()]);
            assert!(artifact.load().predict(&rows).is_ok());
        }
    }
    for content in [&b""[..], b"\xff\xff\xff\xff\x0f", b"{}"] {
        let error = Artifact::decode(&seal(content)).unwrap_err();
        assert!(matches!(error, ArtifactError::Content(_)), "{error}");
    }
}
