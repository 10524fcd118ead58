//! linfa's forests as a second opinion, because linfa searches splits independently of this crate. The digits are left out:
//! linfa takes minutes on them.

use canopy_forest::train::linfa_backend;
use canopy_forest::train::parameters::RandomForest;

use crate::folds::accuracy;
use crate::golden;

#[test]
fn linfas_forests_are_about_as_good_as_ours() {
    let golden = golden::cross_validation();
    for set in ["iris", "wine", "breast_cancer"] {
        let (samples, folds) = (golden::samples(set), &golden[set].folds[0]);
        let parameters = RandomForest::params().seed(1);
        let ours = accuracy(&samples, folds, |known| parameters.train(known, &|_, _| {}));
        let linfas = accuracy(&samples, folds, |known| linfa_backend::train(&parameters, known));
        println!("{set}: {ours:.4}, linfa {linfas:.4}");
        assert!((ours - linfas).abs() < 0.03, "{set}: {ours} is far from linfa's {linfas}");
    }
}
