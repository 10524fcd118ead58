//! Rows of numbers: the input of a prediction. Rows may differ in length until `schema` has checked them.

/// Rows of numbers, one after the other; they may differ in length until a schema has checked them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    values: Vec<f64>,
    ends: Vec<usize>,
    single: bool,
}

impl Rows {
    /// The one row of a request with `features`.
    pub fn single(values: Vec<f64>) -> Self {
        Self { ends: vec![values.len()], values, single: true }
    }

    /// The rows of a request with `instances`.
    pub fn instances<R: AsRef<[f64]>>(rows: impl IntoIterator<Item = R>) -> Self {
        let mut all = Self::default();
        for row in rows {
            all.values.extend_from_slice(row.as_ref());
            all.ends.push(all.values.len());
        }
        all
    }

    /// Adds a number to the row that is not ended yet.
    pub(crate) fn push(&mut self, value: f64) {
        self.values.push(value);
    }

    /// Ends a row.
    pub(crate) fn end_row(&mut self) {
        self.ends.push(self.values.len());
    }

    /// Marks the only row as that of a request with `features`.
    pub(crate) fn into_single(mut self) -> Self {
        self.single = true;
        self
    }

    /// Whether the request had `features`: the answer then has one prediction instead of a list.
    pub fn is_single(&self) -> bool {
        self.single
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All numbers, row after row.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// All numbers, row after row, to be replaced.
    pub(crate) fn values_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }

    /// The rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        let start = |i: usize| if i == 0 { 0 } else { self.ends[i - 1] };
        self.ends.iter().enumerate().map(move |(i, &end)| &self.values[start(i)..end])
    }
}
