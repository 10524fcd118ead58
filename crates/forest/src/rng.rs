//! Seeded random numbers, the same on every machine and in every version, which a library's generator does not promise.
//! They are not for secrets.

/// `SplitMix64` (Steele, Lea and Flood 2014).
pub(crate) struct SeededRng(u64);

/// What the state moves by at each draw: an odd number near 2^64 divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The half width of the box that a ratio of uniforms is drawn from for the normal distribution: √(2/e).
const HALF_WIDTH: f64 = 0.857_763_884_960_706_8;

/// What a stream of draws is used for. Two purposes have independent streams, also with the same seed: otherwise the
/// rows that a tree is grown on would depend on which rows are held out, and these on the values of synthetic rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The values of synthetic rows.
    Synthetic,
    /// Which rows are held out.
    Split,
    /// The rows and features of the tree with this number.
    Tree(u64),
}

impl SeededRng {
    /// The stream of draws that `seed` decides for `purpose`.
    pub(crate) fn new(seed: u64, purpose: Purpose) -> Self {
        let tagged = |tag: [u8; 8]| mix(mix(seed) ^ u64::from_le_bytes(tag));
        Self(match purpose {
            // Without a tag: the rows of the demo are the same in every version.
            Purpose::Synthetic => mix(mix(seed)),
            Purpose::Split => mix(tagged(*b"split\0\0\0")),
            Purpose::Tree(number) => mix(tagged(*b"tree\0\0\0\0") ^ number.wrapping_mul(STEP)),
        })
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A number from 0 to `bound` - 1, each equally likely; 0 where `bound` is 0 (Lemire 2019).
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        let mut product = u128::from(self.next()) * u128::from(bound);
        if (product as u64) < bound {
            let unfair = bound.wrapping_neg() % bound;
            while (product as u64) < unfair {
                product = u128::from(self.next()) * u128::from(bound);
            }
        }
        (product >> 64) as usize
    }

    /// A number in (0, 1].
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// A standard normal number, by the ratio of uniforms (Kinderman and Monahan 1977): the logarithm, whose last
    /// bit differs between machines, only decides what is drawn again and is no part of the number.
    pub(crate) fn normal(&mut self) -> f64 {
        loop {
            let u = self.unit();
            let x = (2.0 * self.unit() - 1.0) * HALF_WIDTH / u;
            if x * x <= -4.0 * u.ln() {
                return x;
            }
        }
    }

    /// Puts `items` into one of all orders, each equally likely (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        // The first draws of the authors' reference program for the seed 1234567.
        let mut random = SeededRng(1_234_567);
        let draws = [random.next(), random.next(), random.next()];
        assert_eq!(draws, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn seeds_purposes_and_trees_have_separate_streams_that_repeat() {
        let draws = |seed, purpose| {
            let mut random = SeededRng::new(seed, purpose);
            [random.next(), random.next()]
        };
        assert_eq!(draws(1, Purpose::Tree(2)), draws(1, Purpose::Tree(2)));
        let purposes = || (0..50).map(Purpose::Tree).chain([Purpose::Synthetic, Purpose::Split]);
        let mut all: Vec<_> =
            (0..50).flat_map(|seed| purposes().map(move |purpose| draws(seed, purpose))).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 50 * 52);
    }

    #[test]
    fn the_first_tree_does_not_repeat_the_draws_of_the_split_or_of_the_rows() {
        let below = |purpose| {
            let mut random = SeededRng::new(42, purpose);
            (0..1000).map(|_| random.below(1000)).collect::<Vec<_>>()
        };
        let (tree, split, rows) = (below(Purpose::Tree(0)), below(Purpose::Split), below(Purpose::Synthetic));
        for (one, other) in [(&tree, &split), (&tree, &rows), (&split, &rows)] {
            let equal = one.iter().zip(other).filter(|(one, other)| one == other).count();
            assert!(equal < 10, "{equal} of 1000 draws are equal");
        }
    }

    #[test]
    fn numbers_below_a_bound_are_equally_likely() {
        let mut random = SeededRng::new(3, Purpose::Split);
        let mut counts = [0_u32; 7];
        (0..70_000).for_each(|_| counts[random.below(7)] += 1);
        assert!(counts.iter().all(|count| (9_600..10_400).contains(count)), "{counts:?}");
        assert_eq!([random.below(1), random.below(0)], [0, 0]);
    }

    #[test]
    fn normal_numbers_have_the_moments_and_tails_of_the_normal_distribution() {
        let mut random = SeededRng::new(4, Purpose::Split);
        let draws: Vec<f64> = (0..200_000).map(|_| random.normal()).collect();
        let mean = |f: &dyn Fn(f64) -> f64| draws.iter().map(|&x| f(x)).sum::<f64>() / draws.len() as f64;
        let found = [
            mean(&|x| x),
            mean(&|x| x * x),
            mean(&|x| x.powi(3)),
            mean(&|x| x.powi(4)),
            mean(&|x| f64::from(x.abs() > 1.959_964)),
        ];
        let expected = [(0.0, 0.01), (1.0, 0.015), (0.0, 0.04), (3.0, 0.1), (0.05, 0.003)];
        for (found, (expected, tolerance)) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() < tolerance, "{found} is not {expected} ± {tolerance}");
        }
    }

    #[test]
    fn a_shuffle_can_give_every_order() {
        let mut random = SeededRng::new(5, Purpose::Split);
        let mut orders: Vec<_> = (0..600)
            .map(|_| {
                let mut items = [0, 1, 2, 3];
                random.shuffle(&mut items);
                items
            })
            .collect();
        orders.sort_unstable();
        orders.dedup();
        assert_eq!(orders.len(), 24);
    }
}
