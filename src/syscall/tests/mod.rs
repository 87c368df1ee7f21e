//! Tests of the table and of all that is derived from it.

mod edit;
mod filesystems;
mod i386;
mod i386_layouts;
mod identity;
mod identity_calls;
mod layouts;
mod lines;
mod memory;
mod names;
mod sockets;
mod table;
mod values;
mod variants;

use crate::constants;
use std::collections::BTreeMap;

use super::*;
use crate::value::Field;

/// This number of cases, the same on every run; failures leave no files behind.
fn cases(cases: u32) -> proptest::prelude::ProptestConfig {
    proptest::prelude::ProptestConfig {
        cases,
        rng_seed: proptest::test_runner::RngSeed::Fixed(7),
        failure_persistence: None,
        ..proptest::prelude::ProptestConfig::default()
    }
}

/// Memory made of pieces.
#[derive(Default, Clone)]
struct Pieces(BTreeMap<u64, Vec<u8>>);

impl Pieces {
    fn with(mut self, addr: u64, bytes: impl Into<Vec<u8>>) -> Pieces {
        self.0.insert(addr, bytes.into());
        self
    }

    fn apply(mut self, writes: &[(u64, Vec<u8>)]) -> Pieces {
        for (addr, bytes) in writes {
            for (i, byte) in bytes.iter().enumerate() {
                let at = addr + i as u64;
                let hit = self.0.range_mut(..=at).next_back();
                match hit {
                    Some((start, piece)) if (at - start) < piece.len() as u64 => {
                        piece[(at - start) as usize] = *byte;
                    }
                    _ => {
                        self.0.insert(at, vec![*byte]);
                    }
                }
            }
        }
        self
    }
}

impl Memory for Pieces {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        let mut done = 0;
        while done < buf.len() {
            let Some(at) = addr.checked_add(done as u64) else {
                break;
            };
            match self.0.range(..=at).next_back() {
                Some((start, piece)) if at - start < piece.len() as u64 => {
                    buf[done] = piece[(at - start) as usize];
                    done += 1;
                }
                _ => break,
            }
        }
        done
    }
}

fn call(name: &str) -> &'static Syscall {
    by_name(name).unwrap()
}

fn lens(regions: &[Region]) -> Vec<(usize, u64, usize)> {
    regions.iter().map(|r| (r.arg, r.addr, r.len)).collect()
}

fn sym(text: &str) -> Value {
    Value::Sym {
        text: text.into(),
        value: constants::eval(text),
    }
}

fn st(fields: &[(&str, Value)]) -> Value {
    Value::Struct {
        fields: fields
            .iter()
            .map(|(name, value)| Field {
                name: (*name).into(),
                value: value.clone(),
            })
            .collect(),
        cut: false,
    }
}

fn arr(items: Vec<Value>) -> Value {
    Value::Array { items, cut: false }
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}
