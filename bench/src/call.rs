//! The requests to a server, each with the correct response.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, StatusCode};

/// Number of different rows, which are sent in turn.
const ROWS: usize = 64;
/// The least distance of a row from the boundary between the two classes, so that every trained model agrees on its class.
const MARGIN: f64 = 1.0;

/// Requests to one route of one server.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) address: SocketAddr,
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) questions: Vec<Question>,
}

/// A request body, and the bytes that every correct response to it contains.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) body: Bytes,
    pub(crate) answer: String,
}

impl Call {
    /// Predictions of the demo model; a response has the class in its member `class_member`.
    pub(crate) fn predictions(address: SocketAddr, path: &'static str, class_member: &str) -> Self {
        let mut random = fastrand::Rng::with_seed(42);
        let questions = std::iter::repeat_with(|| row(&mut random))
            .filter(|row| (row[0] + row[1]).abs() > MARGIN)
            .take(ROWS)
            .map(|[a, b, c, d]| Question {
                body: format!(r#"{{"features":[{a},{b},{c},{d}]}}"#).into(),
                answer: format!(r#""{class_member}":{}"#, u8::from(a + b > 0.0)),
            })
            .collect();
        Self { address, method: Method::POST, path, questions }
    }

    /// A GET whose response contains `answer`.
    pub(crate) fn get(address: SocketAddr, path: &'static str, answer: &str) -> Self {
        let question = Question { body: Bytes::new(), answer: answer.to_owned() };
        Self { address, method: Method::GET, path, questions: vec![question] }
    }
}

impl Question {
    /// Returns an error for an incorrect response.
    pub(crate) fn check(&self, status: StatusCode, body: &[u8]) -> Result<(), String> {
        let answer = self.answer.as_bytes();
        if status == StatusCode::OK && body.windows(answer.len()).any(|part| part == answer) {
            return Ok(());
        }
        let (sent, received) = (String::from_utf8_lossy(&self.body), String::from_utf8_lossy(body));
        Err(format!(
            "expected 200 with {}, got {status} {received}; the body of the request was {sent:?}",
            self.answer
        ))
    }
}

/// Four numbers between -2 and 2, the range of most training rows, with three decimals, as real data have.
fn row(random: &mut fastrand::Rng) -> [f64; 4] {
    std::array::from_fn(|_| f64::from(random.i32(-2000..=2000)) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Call {
        Call::predictions(([127, 0, 0, 1], 1).into(), "/predict", "prediction")
    }

    #[test]
    fn requests_have_both_classes() {
        let call = call();
        let ones = call.questions.iter().filter(|q| q.answer == r#""prediction":1"#).count();
        assert_eq!(call.questions.len(), ROWS);
        assert!((ROWS / 4..ROWS * 3 / 4).contains(&ones), "{ones} of {ROWS} are of class 1");
    }

    #[test]
    fn only_the_correct_class_with_status_200_is_accepted() {
        let question = Question { body: "{}".into(), answer: r#""prediction":1"#.to_owned() };
        let check = |status, body: &str| question.check(status, body.as_bytes());
        assert_eq!(check(StatusCode::OK, r#"{"prediction":1,"confidence":0.9}"#), Ok(()));
        let wrong = check(StatusCode::OK, r#"{"prediction":0}"#).unwrap_err();
        assert_eq!(
            wrong,
            r#"expected 200 with "prediction":1, got 200 OK {"prediction":0}; the body of the request was "{}""#
        );
        assert!(check(StatusCode::SERVICE_UNAVAILABLE, r#"{"prediction":1}"#).is_err());
        assert!(check(StatusCode::OK, "").is_err());
    }
}
