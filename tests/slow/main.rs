//! More programs than every run of the tests has time for: see `tests/slow/programs`. And what `tests/hostile` does, for
//! longer. `tests/run-slow` runs these.

#[path = "../hostile/any_calls.rs"]
mod any_calls;
#[path = "../common/mod.rs"]
mod common;
#[path = "../hostile/isolation.rs"]
mod isolation;

const TABLE: &str = include_str!("programs");

fn check(name: &str) {
    common::listed::check(TABLE, name, Vec::new());
}

listed_programs! { check:
    unshare_pid
    unshare_net
    nsenter
    bwrap
    man
    ethtool
    psutil
    ip
    lsof
    gpg
    openssl_rand
    random_device
    stress_enosys
    timeout_kill
    python_itimer
    perl_alarm
    expect
    pv
    cp_large
    pigz
    parallel
    zip
    socat
    erlang
    sbcl
    ghc
    guile
    tcl
    python_list
    cargo
    ffmpeg
    convert
    mpirun
    redis_threads
    make_many
    apache
    haproxy
    lighttpd
    memcached
    rsyslogd
    postgres_server
    dnsmasq
    sshd
}

#[test]
fn any_calls_for_ten_minutes() {
    any_calls::check(100_000, std::time::Duration::from_secs(600));
}

#[test]
fn a_thousand_injections_do_not_see_each_other() {
    isolation::check(1000, 16);
}
