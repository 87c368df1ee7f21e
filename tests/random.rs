//! What a program takes from the processor without a call: random numbers are recorded, and what the processor says of itself is
//! the same on another one.

use crate::common::Folder;
use crate::common::whole::{self, Program};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::arch::x86_64::__cpuid_count;
use std::time::Duration;

#[track_caller]
fn check(name: &str, options: &[&str], strip: bool) {
    // Without the instruction there is nothing to record.
    if !std::arch::is_x86_feature_detected!("rdrand") {
        return;
    }
    let folder = Folder::new();
    let options = [&["-pthread", "-mrdrnd", "-mrdseed"], options].concat();
    let program = folder.compile_as(name, "random", &options);
    if strip {
        let status = std::process::Command::new("strip").arg(&program).status();
        assert!(status.unwrap().success());
    }
    let mut argv = vec![program];
    if std::arch::is_x86_feature_detected!("rdseed") {
        argv.push("seed".into());
    }
    whole::check(&Program {
        name,
        argv,
        same: false,
        limit: Duration::from_secs(60),
        spins: 5,
        env: Vec::new(),
    });
}

#[test]
fn numbers_of_the_processor_are_recorded() {
    check("numbers", &["-O1"], false);
}

#[test]
fn numbers_of_a_static_program_without_symbols_are_recorded() {
    check("static_numbers", &["-O2", "-static"], true);
}

/// Does something that starts programs on the first CPU that there is or the last.
fn on_cpu<T>(last: bool, what: impl FnOnce() -> T) -> T {
    let me = Pid::from_raw(0);
    let before = sched_getaffinity(me).unwrap();
    let mut cpus = (0..CpuSet::count()).filter(|&cpu| before.is_set(cpu).unwrap());
    let cpu = if last { cpus.next_back() } else { cpus.next() };
    let mut one = CpuSet::new();
    one.set(cpu.unwrap()).unwrap();
    sched_setaffinity(me, &one).unwrap();
    let done = what();
    sched_setaffinity(me, &before).unwrap();
    done
}

/// The arguments that have the program ask with `rdpid`, where there is that.
fn rdpid() -> Vec<&'static str> {
    let has = __cpuid_count(7, 0).ecx & 1 << 22 != 0;
    if has { vec!["rdpid"] } else { vec![] }
}

#[test]
fn the_processor_is_the_recorded_one_on_another_cpu() {
    let folder = Folder::new();
    let program = folder.compile_as("processor", "processor", &["-O1"]);
    let argv = [vec![program.as_str()], rdpid()].concat();
    let recorded = on_cpu(true, || folder.record("rec", &argv).ok().text());
    for last in [false, true] {
        let again = on_cpu(last, || folder.rrapper(["replay", "rec"]).ok());
        assert_eq!(again.text(), recorded);
    }
    // Programs cannot know of what would lead them astray, and have no number of a CPU.
    for line in ["rdrand 0", "rdseed 0", "rdpid 0", "apic 0", "aux 0"] {
        assert!(recorded.lines().any(|l| l == line), "{}", recorded);
    }
    // So does a copy that goes on by itself, but for what the linker keeps of what it does then.
    let script = r#"
        local rec = rr.open "rec"
        local copy = rr.replay_to(rec:find { syscall = "munmap" }):spin_off()
        io.write(copy:live().stdout)
    "#;
    let without = |out: &str, what: &str| -> Vec<String> {
        let lines = out.lines().filter(|line| !line.starts_with(what));
        lines.map(str::to_string).collect()
    };
    let live = on_cpu(false, || folder.script(script).ok().text());
    assert_eq!(without(&live, "linker"), without(&recorded, "linker"));
    // Another recording knows the same processor, but for what lies elsewhere in memory.
    let other = on_cpu(false, || folder.record("other", &argv).ok().text());
    let of_processor = |out: &str| without(&without(out, "linker").join("\n"), "at ");
    assert_eq!(of_processor(&other), of_processor(&recorded));
}

#[track_caller]
fn check_processor(name: &str, options: &[&str]) {
    let folder = Folder::new();
    let program = folder.compile_as(name, "processor", options);
    let rdpid = rdpid().into_iter().map(String::from);
    whole::check(&Program {
        name,
        argv: std::iter::once(program).chain(rdpid).collect(),
        same: false,
        limit: Duration::from_secs(60),
        spins: 5,
        env: Vec::new(),
    });
}

#[test]
fn what_the_processor_says_of_itself_replays() {
    check_processor("processor", &["-O2"]);
}

#[test]
fn a_program_for_this_very_processor_replays() {
    check_processor("native", &["-O3", "-march=native"]);
}

#[test]
fn numbers_are_recorded_where_a_file_is_made_executable_later() {
    if !std::arch::is_x86_feature_detected!("rdrand") {
        return;
    }
    let folder = Folder::new();
    let program = folder.compile_as("later", "made_code", &["-O1"]);
    whole::check(&Program {
        name: "later",
        argv: vec![program, "draw".into()],
        same: false,
        limit: Duration::from_secs(60),
        spins: 5,
        env: Vec::new(),
    });
}

/// Nothing can be done about code that a program makes itself, but it can be told.
#[test]
fn a_replay_that_leaves_its_recording_tells_of_numbers_that_it_does_not_have() {
    if !std::arch::is_x86_feature_detected!("rdrand") {
        return;
    }
    let folder = Folder::new();
    let program = folder.compile_as("made", "made_code", &["-O1"]);
    folder.record("rec", &[&program, "make"]).ok();
    let told = [
        "the replay left the recording",
        "rdrand at 0x",
        "made executable itself",
        "OPENSSL_ia32cap=~0x4000000000000000:~0x40000",
        "intel-rdrand",
    ];
    folder.rrapper(["replay", "rec"]).complains(&told);
    // A copy, too, to which nothing was done; and one to which something was has no such excuse.
    let script = r#"
        local rec = rr.open "rec"
        local stop = rr.replay_to(2)
        local outcome = stop:spin_off():inject(nil, 0)
        print(outcome.status, outcome.divergence.doubt)
        print(outcome)
        local changed = stop:spin_off():inject(nil, 0, nil, { brk = { delay = 0.001 }, access = { fail = "EACCES" } })
        print(changed.status, changed.divergence.doubt)
    "#;
    let told = folder.script(script).ok().text();
    let lines: Vec<&str> = told.lines().collect();
    assert!(
        lines[0].starts_with("diverged\tit may have drawn"),
        "{told}"
    );
    assert!(lines[1].contains("; it may have drawn"), "{told}");
    assert_eq!(lines[2], "diverged\tnil");
}

/// Who translates code does not execute it: it reads it, and should see what is in the file.
#[test]
fn a_program_that_loads_others_itself_sees_their_code_as_it_is() {
    let folder = Folder::new();
    for (name, option, code) in [("plain", "-pie", "f4 a2"), ("loader", "-static", "0f a2")] {
        let program = folder.compile_as(name, "made_code", &["-O1", "-fPIE", option]);
        let recorded = folder
            .record(&format!("{name}-rec"), &[&program, "look"])
            .ok();
        assert_eq!(recorded.text().trim(), code, "{name}");
        assert_eq!(folder.plain(&[&program, "look"]).text().trim(), "0f a2");
    }
}

/// The processor traps `cpuid` where it is not replaced, if it can.
#[test]
fn code_that_a_program_makes_finds_no_random_numbers_in_the_processor() {
    let doctor = Folder::new().rrapper(["doctor"]).text();
    let traps = doctor
        .lines()
        .any(|line| line.contains("cpuid was made to trap"));
    if !traps {
        return;
    }
    let folder = Folder::new();
    let program = folder.compile("made_cpuid", &["-O1", "-pthread"]);
    for how in ["hidden", "shared", "segment", "at once", "afterwards"] {
        let name = how.replace(' ', "-");
        let recorded = folder.record(&name, &[&program, how]).ok().text();
        assert!(recorded.contains(how), "{recorded}");
        assert!(!recorded.contains("RDRAND"), "{recorded}");
        assert_eq!(folder.rrapper(["replay", &name]).ok().text(), recorded);
        // A copy that its recording answers from its beginning on.
        let script = format!(
            r#"rr.open "{name}"
               local o = rr.replay_to(2):spin_off():inject()
               assert(o.divergence == nil and o.status ~= "signaled", tostring(o))"#
        );
        folder.script(&script).ok();
    }
}
