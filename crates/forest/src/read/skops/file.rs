//! The arrays of a skops file, by the object that refers to them.

use crate::data::seen::Seen;
use crate::read::archive::Archive;
use crate::read::error::{Limits, Problem};
use crate::read::skops::npy::Array;
use crate::read::skops::schema::Object;
use crate::read::whole::whole;

/// A skops file while it is read.
pub(crate) struct File<'a> {
    pub(crate) archive: Archive<'a>,
    pub(crate) limits: &'a Limits,
}

/// A value that an encoder or an imputer knows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Number(f64),
    Text(String),
    /// NaN or `None`.
    Missing,
}

impl File<'_> {
    /// The array of an object.
    pub(crate) fn array(&self, object: Object<'_>) -> Result<Array, Problem> {
        if !object.is_array() {
            let path = object.path();
            return Err(Problem::malformed(format!("{} is used as an array", Seen::new(&path))));
        }
        Array::parse(&self.archive.read(object.text("file"))?, self.limits.numbers)
    }

    /// The numbers of an attribute: an array or a number.
    pub(crate) fn numbers(&self, object: Object<'_>, name: &str) -> Result<Vec<f64>, Problem> {
        self.listed(object.get(name)?).map_err(|problem| match problem {
            Problem::Malformed(problem) => Problem::Malformed(format!("`{name}`: {problem}")),
            Problem::Unsupported { .. } | Problem::Limit { .. } | Problem::Ensemble(_) => problem,
        })
    }

    /// The numbers of an array, a list of numbers or one number.
    fn listed(&self, object: Object<'_>) -> Result<Vec<f64>, Problem> {
        if object.is_array() {
            return self.array(object)?.numbers();
        }
        let number =
            |object: Object<'_>| object.number().ok_or_else(|| Problem::malformed("a number is expected"));
        match object.scalar() {
            Some(_) => Ok(vec![number(object)?]),
            None => object.items()?.map(|item| number(item?)).collect(),
        }
    }

    /// The numbers of an attribute, of which there must be as many.
    pub(crate) fn counted(&self, object: Object<'_>, name: &str, count: usize) -> Result<Vec<f64>, Problem> {
        let numbers = self.numbers(object, name)?;
        if numbers.len() != count {
            let found = numbers.len();
            return Err(Problem::malformed(format!("`{name}` must have {count} numbers, got {found}")));
        }
        Ok(numbers)
    }

    /// The finite number of an attribute.
    pub(crate) fn number(&self, object: Object<'_>, name: &str) -> Result<f64, Problem> {
        let number = self.counted(object, name, 1)?[0];
        if number.is_finite() {
            return Ok(number);
        }
        Err(Problem::malformed(format!("`{name}` is not finite")))
    }

    /// The count that an attribute has.
    pub(crate) fn count(&self, object: Object<'_>, name: &str) -> Result<usize, Problem> {
        let number = self.number(object, name)?;
        whole(number).ok_or_else(|| Problem::malformed(format!("`{name}` is {number}, which is no count")))
    }

    /// The labels of the classes.
    pub(crate) fn labels(&self, object: Object<'_>, name: &str) -> Result<Vec<String>, Problem> {
        let classes = object.get(name)?;
        let labels = if classes.is_array() {
            let array = self.array(classes)?;
            if array.shape.len() != 1 {
                return Err(several_targets());
            }
            array.texts()?
        } else {
            let label = |item: Object<'_>| {
                let scalar = item.scalar().ok_or_else(several_targets)?;
                Ok(item.string().unwrap_or_else(|| match scalar {
                    "true" => "True".to_owned(),
                    "false" => "False".to_owned(),
                    other => other.to_owned(),
                }))
            };
            classes.items()?.map(|item| label(item?)).collect::<Result<_, Problem>>()?
        };
        if labels.len() < 2 {
            return Err(Problem::unsupported(
                format!("a classifier with {} classes", labels.len()),
                "train it with rows of at least 2 classes",
            ));
        }
        Ok(labels)
    }

    /// The texts of an array of texts.
    pub(crate) fn texts(&self, object: Object<'_>) -> Result<Vec<String>, Problem> {
        let text = |value| match value {
            Value::Text(text) => Ok(text),
            Value::Number(_) | Value::Missing => {
                Err(Problem::malformed("the names of columns are not texts"))
            }
        };
        self.values(object)?.into_iter().map(text).collect()
    }

    /// The values of an array of any kind.
    pub(crate) fn values(&self, object: Object<'_>) -> Result<Vec<Value>, Problem> {
        if object.is_array() {
            let array = self.array(object)?;
            if array.is_text() {
                return Ok(array.texts()?.into_iter().map(Value::Text).collect());
            }
            return Ok(array.numbers()?.into_iter().map(Value::number).collect());
        }
        object.items()?.map(|item| Value::of(item?)).collect()
    }
}

impl Value {
    fn number(number: f64) -> Self {
        if number.is_nan() { Self::Missing } else { Self::Number(number) }
    }

    /// The value of a scalar.
    pub(crate) fn of(object: Object<'_>) -> Result<Self, Problem> {
        let is_missing = object.is_none() || object.class() == "NAType";
        let text = || object.string().map(Self::Text);
        let number = || object.number().map(Self::number);
        let found = if is_missing { Some(Self::Missing) } else { text().or_else(number) };
        found.ok_or_else(|| {
            let path = object.path();
            Problem::unsupported(format!("a category of type {}", Seen::new(&path)), "use texts or numbers")
        })
    }
}

/// The refusal of a classifier with several targets.
pub(crate) fn several_targets() -> Problem {
    Problem::unsupported("a classifier of several targets", "train one model for each target")
}
