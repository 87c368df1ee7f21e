//! Connections within a live family: each has its own other end, its data and its options, and none is waited for.

use crate::common::Folder;

#[test]
fn connections_are_those_that_they_were() {
    let folder = Folder::new();
    folder.write("reconnect.py", include_str!("fixtures/reconnect.py"));
    let mut differ = Vec::new();
    for how in [
        "behind",
        "order",
        "shared",
        "full",
        "deferred",
        "corked",
        "local",
        "early alone",
    ] {
        let name = how.replace(' ', "_");
        let recorded = folder
            .record(&name, &["/usr/bin/python3", "-S", "reconnect.py", how])
            .ok();
        let went = folder.live_from_mark(&name);
        if went != format!("{}exited\n", recorded.text()) {
            differ.push(format!("{how}: {} / {went}", recorded.text()));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}
