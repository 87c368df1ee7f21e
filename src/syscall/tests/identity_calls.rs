//! Decoding and then encoding is the identity for calls, too: messages with all their parts, and every output of the
//! table.

use super::identity::{Random, through_text};
use super::*;

/// A message as recvmsg leaves it: two buffers, an address, control messages of all sizes.
#[test]
fn every_message_survives() {
    let mut random = Random(0x2718_2818_2845_9045);
    let recvmsg = call("recvmsg");
    let args = [3, 0x1000, 0, 0, 0, 0];
    for _ in 0..500 {
        let mut control = Vec::new();
        for _ in 0..random.below(4) {
            control.resize(control.len().next_multiple_of(8), 0);
            let (data, kind) = match random.below(3) {
                0 => ((random.below(5) * 4) as usize, 1u64 << 32 | 1),
                _ => (random.below(40) as usize, random.next() >> random.below(64)),
            };
            control.extend((16 + data as u64).to_le_bytes());
            control.extend(kind.to_le_bytes());
            control.extend(random.bytes(data));
        }
        let (first, second) = (random.below(20), random.below(20));
        let named = random.below(2) * 16;
        let header = [
            0x2000,
            named,
            0x3000,
            2,
            0x4000,
            control.len() as u64,
            random.below(256),
        ];
        let mut address = random.bytes(16);
        address[..2].copy_from_slice(&2u16.to_le_bytes());
        address[8..].fill(0);
        let filled = Pieces::default()
            .with(0x1000, words(&header))
            .with(0x2000, address)
            .with(0x3000, words(&[0x5000, first, 0x6000, second]))
            .with(0x4000, control.clone())
            .with(0x5000, random.bytes(first as usize))
            .with(0x6000, random.bytes(second as usize));
        let ret = random.below(first + second + 1) as i64;
        let mut room = filled.clone();
        for (addr, len) in [
            (0x2000, 16),
            (0x4000, control.len()),
            (0x5000, first as usize),
            (0x6000, second as usize),
        ] {
            room = room.apply(&[(addr, vec![0; len])]);
        }
        let values = recvmsg.decode(&args, Some(ret), &filled, &filled);
        let mut written = Pieces::default();
        for region in recvmsg.outputs(&args, ret, &filled, &filled) {
            let mut bytes = vec![0; region.len];
            filled.read(region.addr, &mut bytes);
            written = written.with(region.addr, bytes);
        }
        assert_eq!(recvmsg.decode(&args, Some(ret), &room, &written), values);
        for source in [values.clone(), through_text(&values)] {
            let writes = recvmsg.encode_outputs(&args, &source, ret, &room).unwrap();
            let after = room.clone().apply(&writes);
            assert_eq!(recvmsg.decode(&args, Some(ret), &room, &after), values);
            for region in recvmsg.outputs(&args, ret, &filled, &filled) {
                let (mut was, mut is) = (vec![0; region.len], vec![0; region.len]);
                filled.read(region.addr, &mut was);
                after.read(region.addr, &mut is);
                assert_eq!(was, is, "{region:?} of {}", values[1]);
            }
        }
    }
}

/// Memory with different bytes at each argument's address.
struct Everywhere {
    base: u64,
    seed: u64,
    changed: std::collections::BTreeMap<u64, u8>,
}

impl Memory for Everywhere {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        let inside = |at: &u64| (self.base..self.base + 0xc000).contains(at);
        let readable = (addr..addr.saturating_add(buf.len() as u64)).take_while(inside);
        let mut done = 0;
        for (at, byte) in readable.zip(buf) {
            let noise = Random((at / 8 + 1).wrapping_mul(self.seed | 1)).next() >> (at % 8 * 8);
            *byte = self.changed.get(&at).copied().unwrap_or(noise as u8);
            done += 1;
        }
        done
    }
}

/// For every call and variant with outputs, over random memory: outputs that were decoded, encoded and written decode
/// to the same values.
#[test]
fn every_output_survives() {
    fn all<'a>(call: &'a Syscall, found: &mut Vec<&'a Syscall>) {
        found.push(call);
        call.variants().for_each(|(_, variant)| all(variant, found));
    }
    let mut calls = Vec::new();
    names()
        .filter_map(by_name)
        .for_each(|call| all(call, &mut calls));
    let by_ioc = call("ioctl").resolve(&[3, 0x8025_9901, 0, 0, 0, 0]);
    calls.push(by_ioc);
    let mut random = Random(0xabcd_ef01_2345_6789);
    let mut problems = Vec::new();
    let mut tried = 0;
    for call in calls.into_iter().filter(|c| c.described) {
        let outputs = call
            .args
            .iter()
            .filter(|a| matches!(&a.kind, Kind::Ptr(dir, _) if *dir != Dir::In));
        // The kernel leaves the arrays of polls as they are, except for the events: see `poll_answers_by_descriptor`.
        // ptrace's sets are inputs.
        if outputs.count() == 0 || call.name.contains("poll") || call.name == "ptrace" {
            continue;
        }
        tried += 1;
        for _ in 0..20 {
            let base = 0x100_0000;
            let mut entry = Everywhere {
                base,
                seed: random.next(),
                changed: Default::default(),
            };
            let mut args = [0u64; 6];
            for (index, arg) in call.args.iter().enumerate().take(6) {
                args[index] = match &arg.kind {
                    Kind::Ptr(_, to) => {
                        let at = base + index as u64 * 0x2000;
                        // Numbers behind pointers are lengths; texts end.
                        let (len, bytes) = match &**to {
                            Kind::Num(_) => (0, 24u64.to_le_bytes()),
                            _ => (200, [0; 8]),
                        };
                        entry.changed.extend((at + len..).zip(bytes));
                        at
                    }
                    // The kernel accepts no other size.
                    _ if arg.name == "sigsetsize" => 8,
                    // The least size of a structure that may grow.
                    _ if ["size", "usize"].contains(&arg.name) => 64,
                    _ => 8 * (1 + random.below(8)),
                };
            }
            let ret = 1 + random.below(8) as i64;
            let mut exit = Everywhere {
                base,
                seed: entry.seed,
                changed: entry.changed.clone(),
            };
            let regions = call.outputs(&args, ret, &entry, &entry);
            // A random count may ask for a gigabyte.
            if regions.iter().any(|region| region.len > 0x1000) {
                continue;
            }
            for region in regions {
                let noise = random.bytes(region.len);
                exit.changed.extend((region.addr..).zip(noise));
                for (addr, byte) in entry
                    .changed
                    .range(region.addr..region.addr + region.len as u64)
                {
                    exit.changed.insert(*addr, *byte);
                }
            }
            let (values, notes) = (
                call.decode(&args, Some(ret), &entry, &exit),
                call.notes(&args, ret, &entry, &exit),
            );
            // A recording has only the written bytes of memory at exit.
            let mut written = Pieces::default();
            for region in call.outputs(&args, ret, &entry, &exit) {
                let mut bytes = vec![0; region.len];
                exit.read(region.addr, &mut bytes);
                written = written.with(region.addr, bytes);
            }
            if call.decode(&args, Some(ret), &entry, &written) != values {
                problems.push(format!(
                    "{}: its outputs are not enough to decode it",
                    call.name
                ));
                break;
            }
            let whole = call.with_notes(&values, &notes);
            let show = |values: &[Value]| {
                values
                    .iter()
                    .map(Value::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let writes = match call.encode_outputs(&args, &whole, ret, &entry) {
                Ok(writes) => writes,
                Err(error) => {
                    problems.push(format!("{}({}): {error}", call.name, show(&whole)));
                    break;
                }
            };
            let mut after = Everywhere {
                base,
                seed: entry.seed,
                changed: entry.changed.clone(),
            };
            for (addr, bytes) in writes {
                after.changed.extend((addr..).zip(bytes));
            }
            let again = call.decode(&args, Some(ret), &entry, &after);
            if again != values || call.notes(&args, ret, &entry, &after) != notes {
                problems.push(format!(
                    "{}({}) became {}",
                    call.name,
                    show(&values),
                    show(&again)
                ));
                break;
            }
        }
    }
    assert!(tried > 100, "{tried}");
    assert!(
        problems.is_empty(),
        "{} of {tried}: {problems:#?}",
        problems.len()
    );
}
