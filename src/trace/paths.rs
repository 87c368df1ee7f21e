//! Which paths the calls of a trace are about, worked out from the trace alone: what a call names, or
//! what the descriptor that it uses was opened as.

use super::{Answer, Call, Trace, Value};
use crate::syscall;
use std::collections::HashMap;

/// The paths behind the descriptors of each task of a trace, call by call.
#[derive(Default)]
struct Open {
    paths: HashMap<(i32, i64), Vec<u8>>,
}

impl Open {
    /// The paths that a call names; where it names none, that behind its descriptor.
    fn paths(&self, call: &Call) -> Vec<Vec<u8>> {
        let Some(known) = syscall::by_name(&call.name) else {
            return Vec::new();
        };
        let named: Vec<Vec<u8>> = known
            .path_args()
            .into_iter()
            .filter_map(|arg| call.args.get(arg)?.as_bytes().map(<[u8]>::to_vec))
            .filter(|path| !path.is_empty())
            .collect();
        if !named.is_empty() {
            return named;
        }
        let Some(fd) = known.fd_arg().and_then(|arg| call.args.get(arg)) else {
            return Vec::new();
        };
        // With strace's -y, the text says it itself.
        if let Value::Fd {
            path: Some(path), ..
        } = fd.meaning()
        {
            return vec![path.clone()];
        }
        let open = fd.as_i64().and_then(|fd| self.paths.get(&(call.tid, fd)));
        open.into_iter().cloned().collect()
    }

    /// Follows a call.
    fn follow(&mut self, call: &Call, paths: &[Vec<u8>]) {
        let Answer::Value(ret) = call.answer else {
            return;
        };
        let Some(known) = syscall::by_name(&call.name) else {
            return;
        };
        let fd = |arg: usize| call.args.get(arg).and_then(Value::as_i64);
        if known.name == "close" {
            if let Some(fd) = fd(0) {
                self.paths.remove(&(call.tid, fd));
            }
        } else if known.returns_fd() || is_duplicate(known.name, call) {
            match paths.first() {
                Some(path) => self.paths.insert((call.tid, ret), path.clone()),
                None => self.paths.remove(&(call.tid, ret)),
            };
        }
    }
}

fn is_duplicate(name: &str, call: &Call) -> bool {
    matches!(name, "dup" | "dup2" | "dup3")
        || (name == "fcntl"
            && matches!(call.args.get(1).map(Value::meaning), Some(Value::Sym { text, .. }) if text.starts_with("F_DUPFD")))
}

impl Trace {
    /// The calls in order, each with the paths that it is about: those it names, or
    /// that behind its descriptor, where the trace has the call that opened it.
    pub fn calls_with_paths(&self) -> impl Iterator<Item = (&Call, Vec<Vec<u8>>)> {
        let mut open = Open::default();
        self.calls().map(move |call| {
            let paths = open.paths(call);
            open.follow(call, &paths);
            (call, paths)
        })
    }
}
