//! More programs than every run of the tests has time for: see `tests/slow/programs`. `tests/run-slow` runs these.

#[path = "../common/mod.rs"]
mod common;

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
