//! Panics that are caught and become errors are not printed.

use std::panic::{set_hook, take_hook};
use std::thread;

/// The names with which threads begin that run neural networks. A panic there becomes the refusal of a file or the error of a
/// request, which has the message.
const CAUGHT: [&str; 2] = ["onnx-load", "rten-"];

/// From now on prints only panics that are not caught.
pub fn hide_caught() {
    let print = take_hook();
    set_hook(Box::new(move |panic| {
        if !is_caught() {
            print(panic);
        }
    }));
}

/// Whether a panic of this thread is caught and becomes an error.
pub(crate) fn is_caught() -> bool {
    thread::current().name().is_some_and(|name| CAUGHT.iter().any(|caught| name.starts_with(caught)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn panics_of_threads_that_run_networks_are_not_printed() {
        let printed = Arc::new(Mutex::new(Vec::new()));
        let (print, before) = (Arc::clone(&printed), take_hook());
        set_hook(Box::new(move |panic| {
            let message = panic.payload_as_str().unwrap_or_default().to_owned();
            if message.starts_with("test of hidden panics") {
                print.lock().unwrap().push(message);
            } else {
                before(panic);
            }
        }));
        hide_caught();
        for name in ["onnx-load", "rten-0", "worker"] {
            let panics = move || panic!("test of hidden panics: {name}");
            let thread = thread::Builder::new().name(name.to_owned()).spawn(panics).unwrap();
            assert!(thread.join().is_err());
        }
        assert_eq!(*printed.lock().unwrap(), ["test of hidden panics: worker"]);
    }
}
