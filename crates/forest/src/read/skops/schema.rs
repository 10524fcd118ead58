//! The objects in `schema.json` of a skops file: each has its class and its content, which is made of objects again.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::data::seen::Seen;
use crate::read::error::{Limits, Problem};

/// A value of JSON. Numbers are not needed: the format has them as texts.
#[derive(Debug)]
pub(crate) enum Json<'a> {
    Other,
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    Map(Vec<(Cow<'a, str>, Json<'a>)>),
}

/// An object of Python.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object<'a>(&'a [(Cow<'a, str>, Json<'a>)]);

/// Parses the text of the schema. It takes memory in proportion to the number of values, which is at most `max`.
pub(crate) fn parse(text: &[u8], max: usize) -> Result<Json<'_>, Problem> {
    // Each value follows one of these.
    let values = text.iter().filter(|byte| matches!(byte, b',' | b'{' | b'[')).count();
    Limits::check("values in schema.json", values, max)?;
    serde_json::from_slice(text).map_err(|error| Problem::malformed(format!("schema.json: {error}")))
}

impl<'de: 'a, 'a> Deserialize<'de> for Json<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor(std::marker::PhantomData))
    }
}

struct JsonVisitor<'a>(std::marker::PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for JsonVisitor<'a> {
    type Value = Json<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Json::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Json::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Json::Other)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut map = Vec::new();
        while let Some(Key(key)) = entries.next_key()? {
            // The types of keys are half of the file, and nothing needs them.
            if key == "key_types" {
                entries.next_value::<IgnoredAny>()?;
            } else {
                map.push((key, entries.next_value()?));
            }
        }
        map.sort_by(|a: &(Cow<'_, str>, _), b| a.0.cmp(&b.0));
        if map.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(A::Error::custom("a key is repeated"));
        }
        Ok(Json::Map(map))
    }
}

/// A key, borrowed from the text where it has no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Json::deserialize(deserializer)? {
            Json::Text(text) => Ok(Self(text)),
            Json::Other | Json::List(_) | Json::Map(_) => Err(D::Error::custom("a key is not a text")),
        }
    }
}

impl<'a> Json<'a> {
    /// The object that this value describes.
    pub(crate) fn object(&'a self) -> Result<Object<'a>, Problem> {
        match self {
            Self::Map(map) => Ok(Object(map)),
            Self::Other | Self::Text(_) | Self::List(_) => {
                Err(Problem::malformed("schema.json has a value where an object is expected"))
            }
        }
    }
}

impl<'a> Object<'a> {
    fn member(self, name: &str) -> Option<&'a Json<'a>> {
        let at = self.0.binary_search_by(|(key, _)| (**key).cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    /// The text of a member of the description, such as `file`; empty if there is none.
    pub(crate) fn text(self, name: &str) -> &'a str {
        match self.member(name) {
            Some(Json::Text(text)) => text,
            _ => "",
        }
    }

    /// The class without its module.
    pub(crate) fn class(self) -> &'a str {
        self.text("__class__")
    }

    /// The module and the class.
    pub(crate) fn path(self) -> String {
        format!("{}.{}", self.text("__module__"), self.class())
    }

    fn loader(self) -> &'a str {
        self.text("__loader__")
    }

    /// The value of a scalar, as JSON text.
    pub(crate) fn scalar(self) -> Option<&'a str> {
        (self.loader() == "JsonNode").then(|| self.text("content"))
    }

    /// Whether it is Python's `None`.
    pub(crate) fn is_none(self) -> bool {
        self.scalar() == Some("null")
    }

    /// Whether it is an array with a file.
    pub(crate) fn is_array(self) -> bool {
        self.loader() == "NdArrayNode" && self.text("type") == "numpy"
    }

    /// The text of a scalar that is a text.
    pub(crate) fn string(self) -> Option<String> {
        serde_json::from_str(self.scalar()?).ok()
    }

    /// The number of a scalar; `true` and `false` are 1 and 0.
    pub(crate) fn number(self) -> Option<f64> {
        match self.scalar()? {
            "true" => Some(1.0),
            "false" => Some(0.0),
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            number => serde_json::from_str(number).ok(),
        }
    }

    /// The items of a list, a tuple or an array of objects.
    pub(crate) fn items(self) -> Result<impl ExactSizeIterator<Item = Result<Object<'a>, Problem>>, Problem> {
        match (self.loader(), self.member("content")) {
            ("ListNode" | "TupleNode" | "NdArrayNode", Some(Json::List(items))) => {
                Ok(items.iter().map(Json::object))
            }
            _ => Err(Problem::malformed(format!("{} is used as a list", Seen::new(&self.path())))),
        }
    }

    /// The entries of a dictionary, or the attributes of an object.
    fn dictionary(self) -> Option<Object<'a>> {
        let mut dictionary = self;
        if matches!(self.loader(), "ObjectNode" | "TreeNode") {
            dictionary = self.member("content")?.object().ok()?;
        }
        match dictionary.member("content") {
            Some(Json::Map(entries)) if dictionary.loader() == "DictNode" => Some(Object(entries)),
            _ => None,
        }
    }

    /// An attribute of an object, or an entry of a dictionary; nothing if it is not there.
    pub(crate) fn find(self, name: &str) -> Option<Object<'a>> {
        self.dictionary()?.member(name)?.object().ok()
    }

    /// An attribute of an object, or an entry of a dictionary.
    pub(crate) fn get(self, name: &str) -> Result<Object<'a>, Problem> {
        self.find(name).ok_or_else(|| {
            let path = self.path();
            Problem::malformed(format!("{} has no attribute `{name}`", Seen::new(&path)))
        })
    }

    /// An attribute that may be missing or `None`.
    pub(crate) fn optional(self, name: &str) -> Option<Object<'a>> {
        self.find(name).filter(|object| !object.is_none())
    }

    /// Whether an attribute is there and not `None`, `false`, zero or an empty text.
    pub(crate) fn is_set(self, name: &str) -> bool {
        self.optional(name)
            .is_some_and(|object| !matches!(object.scalar(), Some("false" | "0" | "0.0" | "\"\"")))
    }

    /// The text of an attribute; empty if it is missing or no text.
    pub(crate) fn option(self, name: &str) -> String {
        self.find(name).and_then(Object::string).unwrap_or_default()
    }

    /// The module and the name of the function that this is a `functools.partial` of.
    pub(crate) fn partial_of(self) -> Option<String> {
        let content = self.member("content").filter(|_| self.loader() == "PartialNode")?.object().ok()?;
        Some(content.member("func")?.object().ok()?.path())
    }
}
