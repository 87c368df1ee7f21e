//! The option `listen`: servers that are played for live processes.

use super::super::convert;
use super::super::error::{did_you_mean, near, raise, shown};
use crate::inject::{Peers, Server, ServerAddress};
use mlua::{Function, Value};

/// What a server can do by a word.
const WORDS: [(&str, Peers); 4] = [
    ("reset", Peers::Reset),
    ("closed", Peers::Closed),
    ("silent", Peers::Silent),
    ("drain", Peers::Drain),
];

/// The call has the same name.
const OF_CALL: &str = "; a rule for the call listen is { on = \"listen\", … }";

/// A server.
pub(super) struct Listener {
    pub server: Server,
    /// The function that answers, if one does.
    pub function: Option<Function>,
}

/// `{ ["127.0.0.1:5432"] = function(conn, bytes) … end, ["/run/x.sock"] = "silent" }`, in the order of the addresses.
pub(super) fn read(value: &Value) -> mlua::Result<Vec<Listener>> {
    let Value::Table(table) = value else {
        return Err(raise(format!(
            "listen is a table {{ [address] = function or word }}, not {}{OF_CALL}",
            shown(value)
        )));
    };
    let mut listeners = Vec::new();
    table.for_each(|key: Value, value: Value| {
        if !matches!(key, Value::String(_)) {
            let key = shown(&key);
            return Err(raise(format!(
                "listen is a table {{ [address] = function or word }}, and has {key} for an address"
            )));
        }
        let text = convert::bytes(&key, "an address in listen")?;
        let address = ServerAddress::parse(&text);
        let address = address.map_err(|error| {
            let is_word = text
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
            let hint = if is_word { OF_CALL } else { "" };
            raise(format!("listen: {error}{hint}"))
        })?;
        listeners.push(listener(address, &value)?);
        Ok(())
    })?;
    listeners.sort_by(|a: &Listener, b: &Listener| a.server.address.cmp(&b.server.address));
    let mut pairs = listeners.windows(2);
    let same = pairs.find(|pair| pair[0].server.address == pair[1].server.address);
    match same {
        Some([one, ..]) => Err(raise(format!("listen has {} twice", one.server.address))),
        _ => Ok(listeners),
    }
}

fn listener(address: ServerAddress, value: &Value) -> mlua::Result<Listener> {
    let mut function = None;
    let how = match value {
        Value::Function(answers) => {
            function = Some(answers.clone());
            Peers::Answer
        }
        Value::String(word) => {
            let word = word.to_string_lossy();
            let known = WORDS.iter().find(|(known, _)| *known == word);
            known.map(|(_, how)| *how).ok_or_else(|| {
                let hint = did_you_mean(&near(&word, WORDS.iter().map(|(known, _)| *known)));
                raise(format!("{}, not {word:?}{hint}", expected(&address)))
            })?
        }
        other => {
            return Err(raise(format!(
                "{}, not {}",
                expected(&address),
                shown(other)
            )));
        }
    };
    if how == Peers::Reset && !matches!(address, ServerAddress::Network(_)) {
        return Err(raise(format!(
            "the server at {address} in listen cannot be \"reset\": only connections of the network are, local ones are \"closed\""
        )));
    }
    Ok(Listener {
        server: Server { address, how },
        function,
    })
}

fn expected(address: &ServerAddress) -> String {
    let words: Vec<String> = WORDS.iter().map(|(word, _)| format!("{word:?}")).collect();
    format!(
        "the server at {address} in listen is a function or {}",
        words.join(" or ")
    )
}
