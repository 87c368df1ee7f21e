//! Calls made for real, with poison around every buffer: the kernel writes where `Syscall::outputs` says, and
//! nowhere else; and what it wrote is what decoding and encoding again make of it.

mod arena;
mod cases;
mod left_out;
mod run;
mod setup;

use arena::Place;
use rrapper::syscall::{self, Dir, Kind, Moved, Syscall};
use run::{Case, Found};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Patterns that differ in every bit: what is written differs from one of them.
const POISONS: [u8; 2] = [0xaa, 0x55];

/// Errors that say that this machine, or this user, cannot make the call.
const NOT_HERE: &[i32] = &[
    libc::EPERM,
    libc::EACCES,
    libc::ENOSYS,
    libc::EOPNOTSUPP,
    libc::ENODEV,
    libc::ENXIO,
    libc::EINVAL,
    libc::ENOTTY,
    libc::EAFNOSUPPORT,
    libc::EPROTONOSUPPORT,
    libc::ENOPROTOOPT,
];

/// What the four runs of a case found, put together.
struct Outcome {
    runs: Vec<Found>,
    complaints: Vec<String>,
    /// The reasons for which complaints were dropped.
    excused: Vec<&'static str>,
    /// The table describes it, and it ended as it should.
    made: bool,
}

/// Why complaints about a case are none.
fn reason(list: &[(&str, &str, &'static str)], case: &Case) -> Option<&'static str> {
    let of_case =
        |e: &&(&str, &str, &'static str)| e.0 == case.call && (e.1 == case.what || e.1.is_empty());
    list.iter().find(of_case).map(|e| e.2)
}

fn make(case: &Case, folder: &Path) -> Outcome {
    let mut runs = Vec::new();
    for place in [Place::Middle, Place::End] {
        for poison in POISONS {
            let own = folder.join(runs.len().to_string());
            std::fs::create_dir(&own).expect("a folder");
            runs.push(run::run(case, &own, place, poison));
        }
    }
    let mut complaints: Vec<String> = Vec::new();
    let mut excused = Vec::new();
    let errno = |run: &Found| (-4095..0).contains(&run.ret).then(|| -run.ret as i32);
    for run in &runs {
        complaints.extend(run.failed.clone());
        let mut stray = Vec::new();
        if let (Some(first), Some(last)) = (run.stray.first(), run.stray.last()) {
            let count = run.stray.len();
            stray.push(format!(
                "{count} bytes written that are not outputs: {first:?} to {last:?}"
            ));
        }
        for (found, list) in [
            (&stray, left_out::STRAY),
            (&run.unlike, left_out::NOT_IN_TEXT),
        ] {
            match reason(list, case) {
                Some(why) if !found.is_empty() => excused.push(why),
                _ => complaints.extend(found.iter().cloned()),
            }
        }
    }
    let ends: BTreeSet<Option<i32>> = runs.iter().map(errno).collect();
    let made = ends == BTreeSet::from([case.errno]);
    let possible = ends
        .iter()
        .all(|e| !e.is_some_and(|e| NOT_HERE.contains(&e)));
    if !made && (possible || ends.len() > 1) {
        complaints.push(format!("it ended with {ends:?}"));
    }
    if made {
        for (buffer, complaint) in untouched(&runs) {
            let of_buffer = |u: &&(&str, &str, usize, &'static str)| {
                (u.0, u.1, u.2) == (case.call, case.what, buffer)
            };
            match left_out::UNTOUCHED.iter().find(of_buffer) {
                Some(entry) => excused.push(entry.3),
                None => complaints.push(complaint),
            }
        }
    }
    complaints.sort();
    complaints.dedup();
    let made = made && runs.iter().all(|r| r.described);
    Outcome {
        runs,
        complaints,
        excused,
        made,
    }
}

/// The outcomes of all cases, in order, made by a few threads.
fn make_all(cases: &[Case], folder: &Path) -> Vec<Outcome> {
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get().min(4));
    let part = cases.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let parts = cases.chunks(part).enumerate().map(|(number, cases)| {
            scope.spawn(move || {
                let made = cases.iter().enumerate().map(|(index, case)| {
                    let own = folder.join(format!("{number}-{index}"));
                    std::fs::create_dir(&own).expect("a folder");
                    make(case, &own)
                });
                made.collect::<Vec<_>>()
            })
        });
        let running: Vec<_> = parts.collect();
        let done = running
            .into_iter()
            .map(|part| part.join().expect("a thread"));
        done.flatten().collect()
    })
}

/// Regions whose last bytes no run has touched, though the table says that they are written: their buffers.
fn untouched(runs: &[Found]) -> Vec<(usize, String)> {
    let mut touched: BTreeMap<run::Spot, Vec<bool>> = BTreeMap::new();
    for run in runs {
        for (&spot, bits) in &run.regions {
            let all = touched
                .entry(spot)
                .or_insert_with(|| vec![false; bits.len()]);
            all.resize(all.len().max(bits.len()), false);
            all.iter_mut().zip(bits).for_each(|(all, bit)| *all |= bit);
        }
    }
    let mut complaints = Vec::new();
    for ((buffer, offset), bits) in touched {
        let rest = bits.iter().rev().take_while(|bit| !**bit).count();
        if rest > 0 {
            let len = bits.len();
            let text = format!(
                "buffer {buffer} at {offset}: the last {rest} of {len} bytes are not written"
            );
            complaints.push((buffer, text));
        }
    }
    complaints
}

/// Whether the kernel writes through a pointer of this kind.
fn is_output(kind: &Kind) -> bool {
    let Kind::Ptr(dir, to) = kind else {
        return false;
    };
    let moved = match &**to {
        Kind::Iovec(Moved::Out, _) | Kind::Message(Moved::Out) | Kind::Messages(..) => true,
        Kind::Struct(layout) => layout.members.iter().any(|m| is_output(&m.kind)),
        _ => false,
    };
    moved || *dir != Dir::In
}

/// The calls below this one that are described and have outputs, by their keys.
fn with_outputs(call: &'static Syscall) -> Vec<String> {
    fn below(root: &'static Syscall, call: &'static Syscall, found: &mut Vec<String>) {
        if call.described && call.args.iter().any(|arg| is_output(&arg.kind)) {
            found.extend(run::key_of(root, call));
        }
        for (_, variant) in call.variants() {
            below(root, variant, found);
        }
    }
    let mut found = Vec::new();
    below(call, call, &mut found);
    found
}

#[test]
fn the_kernel_writes_where_the_table_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut made: BTreeSet<String> = BTreeSet::new();
    let (mut not_here, mut not_described, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    let (mut lacking, mut excused) = (Vec::new(), BTreeSet::new());
    let cases = cases::all();
    for (case, outcome) in cases.iter().zip(make_all(&cases, folder.path())) {
        let name = format!("{} ({})", case.call, case.what);
        problems.extend(outcome.complaints.iter().map(|c| format!("{name}: {c}")));
        excused.extend(
            outcome
                .excused
                .iter()
                .map(|why| format!("{}: {why}", case.call)),
        );
        let first = &outcome.runs[0];
        if !first.described {
            not_described.push(name);
            continue;
        }
        if !outcome.made {
            let list = match outcome.runs.iter().all(|run| run.lacking) {
                true => &mut lacking,
                false => &mut not_here,
            };
            list.push(format!("{name}: {}", first.ret));
        }
        made.insert(first.key.clone());
    }
    println!("{} cases; {} calls and variants", cases.len(), made.len());
    let untouched = left_out::UNTOUCHED.iter().map(|e| (e.0, e.3));
    let others = left_out::STRAY
        .iter()
        .chain(left_out::NOT_IN_TEXT)
        .map(|e| (e.0, e.2));
    let entries = untouched
        .chain(others)
        .map(|(call, why)| format!("{call}: {why}"));
    let stale: Vec<String> = entries.filter(|entry| !excused.contains(entry)).collect();
    println!("excused, but not needed here: {stale:#?}");
    println!("not possible here: {not_here:#?}");
    println!("no device or right for: {lacking:#?}");
    println!("not described: {not_described:#?}");
    let missing: Vec<String> = syscall::names()
        .filter_map(syscall::by_name)
        .flat_map(with_outputs)
        .filter(|key| !made.contains(key) && !left_out::is_left_out(key))
        .collect();
    println!("neither made nor left out: {missing:#?}");
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(made.len() >= 300, "{} calls and variants", made.len());
    assert!(not_here.len() < 60, "{not_here:#?}");
}
