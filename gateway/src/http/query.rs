//! Parses the query parameters of a URL. Unknown and repeated parameters are rejected.

use axum::extract::Query;
use canopy_contract::fault::quotable;
use http::Uri;

use crate::error::ApiError;

/// The values of the parameters `names`, in their order. An unknown parameter is rejected, since a misspelt one would otherwise be
/// ignored.
pub(crate) fn parameters<const N: usize>(
    uri: &Uri,
    names: [&str; N],
) -> Result<[Option<String>; N], ApiError> {
    let unreadable =
        |_| ApiError::InvalidQuery("query".to_owned(), "must be NAME=VALUE, joined by &".to_owned());
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(unreadable)?;
    let mut values = [const { None }; N];
    for (name, value) in pairs {
        match names.iter().position(|known| *known == name) {
            None => return Err(ApiError::InvalidQuery(quotable(&name), unknown(&names))),
            Some(place) if values[place].is_some() => {
                return Err(ApiError::InvalidQuery(name, "must be given once".to_owned()));
            }
            Some(place) => values[place] = Some(value),
        }
    }
    Ok(values)
}

fn unknown(names: &[&str]) -> String {
    match names {
        [] => "is unknown; this path takes no parameters".to_owned(),
        names => format!("is unknown; this path takes {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<[Option<String>; 2], String> {
        let uri: Uri = format!("/list?{query}").parse().unwrap();
        parameters(&uri, ["limit", "after"]).map_err(|error| error.to_string())
    }

    #[test]
    fn parameters_are_returned_in_order_and_decoded() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(read(""), Ok([None, None]));
        assert_eq!(read("after=a%20b&limit=5"), Ok([text("5"), text("a b")]));
        assert_eq!(read("limit"), Ok([text(""), None]));
        assert_eq!(parameters(&Uri::from_static("/list"), ["limit"]).ok(), Some([None]));
    }

    #[test]
    fn unknown_and_repeated_parameters_are_rejected_by_name() {
        let check = |query: &str, words: &str| assert_eq!(read(query).unwrap_err(), words);
        check("foo=1", "foo is unknown; this path takes limit, after");
        check("limit=1&LIMIT=2", "LIMIT is unknown; this path takes limit, after");
        check("limit=1&limit=1", "limit must be given once");
        check("=1", " is unknown; this path takes limit, after");
        check(&"x".repeat(5000), &format!("{} is unknown; this path takes limit, after", "x".repeat(64)));
        check("%1b%5b2J=1", "\u{fffd}[2J is unknown; this path takes limit, after");
        let none = parameters(&Uri::from_static("/list?a"), []).unwrap_err();
        assert_eq!(none.to_string(), "a is unknown; this path takes no parameters");
    }
}
