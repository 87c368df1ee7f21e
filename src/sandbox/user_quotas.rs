//! Quotas that the kernel counts for a user, and that can be limited for a user namespace (namespaces(7),
//! `/proc/sys/user`): what the processes of a sandbox take of them is a small part of the user's.

/// The files below `/proc/sys/user`, with the limits. A user has 128 inotify instances unless the machine says otherwise.
/// In a control group namespace of its own a process could mount the control groups, which are the machine's.
pub(super) const QUOTAS: [(&str, &str); 5] = [
    ("max_cgroup_namespaces", "0"),
    ("max_inotify_instances", "32"),
    ("max_inotify_watches", "8192"),
    ("max_fanotify_groups", "16"),
    ("max_fanotify_marks", "8192"),
];
