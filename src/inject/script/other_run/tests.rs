use super::*;

fn run() -> OtherRun {
    let pids = BTreeMap::from([(4321, 987), (50, 60)]);
    let mut run = OtherRun::new(&Trace::new(Vec::new()), pids, 987, 1);
    run.made.insert(b"tmp.4321.AbCd12".to_vec(), false);
    run.made.insert(b"x-1700000001".to_vec(), false);
    run
}

fn path(run: &mut OtherRun, trace: &str, here: &str) -> bool {
    let mut learned = Vec::new();
    let same = run.same_path(trace.as_bytes(), here.as_bytes(), &mut learned);
    assert!(same.is_none_or(|len| len == here.len()));
    let learns = same.is_some();
    learned.into_iter().for_each(|name| run.keep(name));
    learns
}

#[test]
fn names_are_learned_where_they_are_made() {
    let mut run = run();
    assert!(!path(
        &mut run,
        "/tmp/tmp.4321.AbCd12",
        "/var/tmp.987.x7Yz9w"
    ));
    assert!(!path(
        &mut run,
        "/tmp/tmp.4321.AbCd12",
        "/tmp/tmp.988.x7Yz9w"
    ));
    assert!(path(
        &mut run,
        "/tmp/tmp.4321.AbCd12",
        "/tmp/tmp.987.x7Yz9w"
    ));
    assert!(
        !path(&mut run, "/tmp/tmp.4321.AbCd12", "/tmp/tmp.987.a1a1a1"),
        "one only"
    );
    assert!(path(&mut run, "AbCd12-journal", "x7Yz9w-journal"));
    assert!(!path(&mut run, "AbCd13-journal", "x7Yz9v-journal"));
    assert!(path(&mut run, "d/x-1700000001", "d/x-1700000099"));
    let now = run.translate(b"a/AbCd12-journal/4321", false);
    assert_eq!(now.as_deref(), Some(&b"a/x7Yz9w-journal/4321"[..]));
    let now = run.translate(b"/proc/4321/fd", true);
    assert_eq!(now.as_deref(), Some(&b"/proc/987/fd"[..]));
    assert_eq!(run.translate(b"4321", false), None);
}

#[test]
fn texts_differ_in_what_is_known() {
    let mut run = run();
    assert!(path(&mut run, "tmp.4321.AbCd12", "tmp.987.x7Yz9w"));
    let same = |a: &str, b: &str, cut| run.same_text(a.as_bytes(), b.as_bytes(), cut);
    assert_eq!(
        same("pid 4321 in AbCd12.", "pid 987 in x7Yz9w.", false),
        Some(18)
    );
    assert_eq!(same("4321", "987", false), Some(3));
    assert_eq!(
        same("50 4321 50", "60 987 50", false),
        Some(9),
        "which may be no pid"
    );
    assert_eq!(same("14321", "1987", false), None);
    assert_eq!(same("4321", "988", false), None);
    assert_eq!(same("4322", "987", false), None);
    assert_eq!(same("4321 AbCd1", "987 x7Yz9", false), None);
    assert_eq!(same("4321 ab", "987 abc", true), Some(6));
    assert_eq!(same("4321 ab", "987 abc", false), None);
    assert_eq!(same("04321", "0987", false), None);
}

#[test]
fn long_texts_take_no_longer_than_they_must() {
    let mut run = run();
    for n in 0..20_000 {
        let (trace, here) = (format!("tmpA{n:06}b"), format!("tmpZ{:06}c", n + 7));
        run.made.insert(trace.clone().into_bytes(), true);
        assert!(path(&mut run, &trace, &here), "{trace}");
    }
    let begin = std::time::Instant::now();
    let trace = "A001000b-4321-".repeat(200_000);
    let here = "Z001007c-987-".repeat(200_000);
    let same = run.same_text(trace.as_bytes(), here.as_bytes(), false);
    assert_eq!(same, Some(here.len()));
    let other = "A001000b-4321-".repeat(200_000) + "!";
    assert_eq!(
        run.same_text(other.as_bytes(), here.as_bytes(), false),
        None
    );
    assert!(begin.elapsed().as_secs() < 10);
}
