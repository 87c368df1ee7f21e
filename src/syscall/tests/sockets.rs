//! Tests of socket options, and of socket addresses and control messages of all families.

use super::variants::{AT, LEN_AT, join, pack, shown, text, value, zeros};
use super::*;
use crate::constants;
use crate::strace::value_from_text;
use crate::syscall::control;

#[track_caller]
fn option(name: &str, (level, option): (&str, &str), bytes: &[u8], expected: &str) {
    let len = if name == "getsockopt" {
        LEN_AT
    } else {
        bytes.len() as u64
    };
    let args = [3, value(level), value(option), AT, len, 0];
    shown(name, &args, 3, (bytes, bytes), expected);
    let values =
        call(name)
            .resolve(&args)
            .decode(&args, Some(0), &Pieces::default(), &Pieces::default());
    assert_eq!(values[1].to_string(), level);
    assert_eq!(values[2].to_string(), option);
}

#[test]
fn socket_options() {
    let get = |names, bytes: &[u8], expected: &str| option("getsockopt", names, bytes, expected);
    let set = |names, bytes: &[u8], expected: &str| option("setsockopt", names, bytes, expected);
    set(("SOL_SOCKET", "SO_REUSEADDR"), &[1, 0, 0, 0], "[1]");
    get(
        ("SOL_SOCKET", "SO_ERROR"),
        &[111, 0, 0, 0],
        "[ECONNREFUSED]",
    );
    get(("SOL_SOCKET", "SO_ERROR"), &[0, 0, 0, 0], "[0]");
    get(
        ("SOL_SOCKET", "SO_PEERCRED"),
        &pack(&[(5, 4), (6, 4), (7, 4)]),
        "{pid=5, uid=6, gid=7}",
    );
    get(
        ("SOL_SOCKET", "SO_LINGER"),
        &pack(&[(1, 4), (5, 4)]),
        "{l_onoff=1, l_linger=5}",
    );
    get(("SOL_SOCKET", "SO_LINGER"), &pack(&[(1, 4)]), "{l_onoff=1}");
    get(
        ("SOL_SOCKET", "SO_PEERGROUPS"),
        &pack(&[(0, 4), (27, 4)]),
        "[0, 27]",
    );
    set(
        ("SOL_SOCKET", "SO_RCVTIMEO_OLD"),
        &pack(&[(2, 8), (5, 8)]),
        "{tv_sec=2, tv_usec=5}",
    );
    set(
        ("SOL_SOCKET", "SO_BINDTODEVICE"),
        b"eth0.1\0",
        r#""eth0.1\0""#,
    );
    set(
        ("SOL_IP", "IP_ADD_MEMBERSHIP"),
        &[239, 0, 0, 1, 127, 0, 0, 1],
        "{imr_multiaddr=inet_addr(\"239.0.0.1\"), imr_interface=inet_addr(\"127.0.0.1\")}",
    );
    set(
        ("SOL_IPV6", "IPV6_ADD_MEMBERSHIP"),
        &join(&[
            pack(&[(0x02ff, 2), (0, 8), (0, 5), (1, 1)]),
            pack(&[(1, 4)]),
        ]),
        "{inet_pton(AF_INET6, \"ff02::1\", &ipv6mr_multiaddr), ipv6mr_interface=1}",
    );
    set(
        ("SOL_PACKET", "PACKET_RX_RING"),
        &pack(&[(4096, 4), (2, 4), (2048, 4), (4, 4)]),
        "{tp_block_size=4096, tp_block_nr=2, tp_frame_size=2048, tp_frame_nr=4}",
    );
    set(
        ("SOL_PACKET", "PACKET_ADD_MEMBERSHIP"),
        &pack(&[(1, 4), (0, 2), (6, 2), (0x0100_005e_0001, 6), (0, 2)]),
        "{mr_ifindex=1, mr_type=PACKET_MR_MULTICAST, mr_alen=6, mr_address=01:00:5e:00:00:01}",
    );
    get(
        ("SOL_PACKET", "PACKET_STATISTICS"),
        &pack(&[(9, 4), (1, 4)]),
        "{tp_packets=9, tp_drops=1}",
    );
    get(
        ("SOL_NETLINK", "NETLINK_LIST_MEMBERSHIPS"),
        &pack(&[(1, 4), (8, 4)]),
        "[1, 8]",
    );
    set(("SOL_UDP", "UDP_SEGMENT"), &pack(&[(1400, 4)]), "[1400]");
    set(
        ("AF_VSOCK", "SO_VM_SOCKETS_BUFFER_SIZE"),
        &pack(&[(64, 8)]),
        r#""@\0\0\0\0\0\0\0""#,
    );
    get(
        ("SOL_TLS", "TLS_TX"),
        &pack(&[(0x0304, 2), (51, 2)]),
        "[3343108]",
    );
    let info = get_tcp_info();
    assert!(
        info.starts_with("{tcpi_state=TCP_ESTABLISHED, tcpi_ca_state=0,"),
        "{info}"
    );
    assert!(info.ends_with("tcpi_total_retrans=0}"), "{info}");
}

/// tcp_info of an old kernel, whose structure is shorter.
fn get_tcp_info() -> String {
    let bytes = join(&[vec![1], zeros(103)]);
    let args = [3, value("SOL_TCP"), value("TCP_INFO"), AT, LEN_AT, 0];
    let mem = Pieces::default()
        .with(AT, bytes)
        .with(LEN_AT, pack(&[(104, 4)]));
    let values = call("getsockopt")
        .resolve(&args)
        .decode(&args, Some(0), &mem, &mem);
    values[3].to_string()
}

#[test]
fn a_socket_filter_is_read_with_its_instructions() {
    let args = [3, 1, value("SO_ATTACH_FILTER"), AT, 16, 0];
    let mem = Pieces::default()
        .with(AT, pack(&[(1, 2), (0, 6), (0x2000, 8)]))
        .with(0x2000, pack(&[(6, 2), (0, 2), (0xffff, 4)]));
    let variant = call("setsockopt").resolve(&args);
    assert_eq!(
        lens(&variant.inputs(&args, &mem)),
        [(3, AT, 16), (3, 0x2000, 8)]
    );
    let shown = value_from_text("{len=1, filter=[BPF_STMT(BPF_RET|BPF_K, 0xffff)]}").unwrap();
    let mut values = variant.decode(&args, Some(0), &mem, &mem);
    values[3] = shown;
    assert_eq!(variant.compare(&args, &mem, &values), Ok(()));
}

#[test]
fn protocols_are_named_by_their_family() {
    let cases = [
        ("AF_INET", 6, "IPPROTO_TCP"),
        ("AF_NETLINK", 15, "NETLINK_KOBJECT_UEVENT"),
        ("AF_PACKET", 0x0300, "htons(ETH_P_ALL)"),
        ("AF_CAN", 1, "CAN_RAW"),
        ("AF_BLUETOOTH", 1, "BTPROTO_HCI"),
        ("AF_UNIX", 0, "0"),
    ];
    for (family, protocol, expected) in cases {
        let args = [value(family), 1, protocol, 0, 0, 0];
        let values = call("socket").resolve(&args).decode(
            &args,
            Some(3),
            &Pieces::default(),
            &Pieces::default(),
        );
        assert_eq!(values[2].to_string(), expected);
        assert_eq!(constants::eval(expected), Some(protocol as i64));
    }
}

#[test]
fn addresses_of_all_families() {
    let cases: &[(Vec<u8>, &str)] = &[
        (
            pack(&[(16, 2), (0, 2), (7, 4), (1, 4)]),
            "{sa_family=AF_NETLINK, nl_pid=7, nl_groups=0x000001}",
        ),
        (
            pack(&[
                (17, 2),
                (0x0300, 2),
                (2, 4),
                (1, 2),
                (0, 1),
                (6, 1),
                (0x0200_11ac_4202, 6),
                (0, 2),
            ]),
            "{sa_family=AF_PACKET, sll_protocol=htons(ETH_P_ALL), sll_ifindex=2, sll_hatype=ARPHRD_ETHER, \
                sll_pkttype=PACKET_HOST, sll_halen=6, sll_addr=[0x2, 0x42, 0xac, 0x11, 00, 0x2]}",
        ),
        (
            pack(&[(40, 2), (0, 2), (1024, 4), (2, 4), (0, 4)]),
            "{sa_family=AF_VSOCK, svm_cid=VMADDR_CID_HOST, svm_port=0x400, svm_flags=0}",
        ),
        (
            join(&[
                pack(&[(38, 2)]),
                text("hash", 14),
                zeros(8),
                text("sha256", 64),
            ]),
            "{sa_family=AF_ALG, salg_type=\"hash\", salg_feat=0, salg_mask=0, salg_name=\"sha256\"}",
        ),
        (
            pack(&[(31, 2), (0, 2), (1, 2)]),
            "{sa_family=AF_BLUETOOTH, hci_dev=htobs(0), hci_channel=HCI_CHANNEL_USER}",
        ),
        (
            pack(&[(31, 2), (0x0605_0403_0201, 6), (3, 1), (0, 1)]),
            "{sa_family=AF_BLUETOOTH, rc_bdaddr=01:02:03:04:05:06, rc_channel=3}",
        ),
        (
            pack(&[(31, 2), (1, 2), (0, 6), (4, 2), (0, 1), (0, 1)]),
            "{sa_family=AF_BLUETOOTH, l2_psm=htobs(L2CAP_PSM_SDP), l2_bdaddr=00:00:00:00:00:00, \
                l2_cid=htobs(L2CAP_CID_ATT), l2_bdaddr_type=BDADDR_BREDR}",
        ),
        (
            pack(&[(30, 2), (2, 1), (2, 1), (18888, 4), (17, 4), (0, 4)]),
            "{sa_family=AF_TIPC, addrtype=TIPC_SERVICE_ADDR, scope=TIPC_CLUSTER_SCOPE, \
                addr={name={name={type=18888, instance=17}, domain=0}}}",
        ),
        (
            pack(&[(42, 2), (0, 2), (1, 4), (0xffff_fffe, 4)]),
            "{sa_family=AF_QIPCRTR, sq_node=0x1, sq_port=QRTR_PORT_CTRL}",
        ),
        (
            pack(&[(44, 2), (1, 2), (2, 4), (3, 4), (5, 4)]),
            "{sa_family=AF_XDP, sxdp_flags=XDP_SHARED_UMEM, sxdp_ifindex=2, sxdp_queue_id=3, sxdp_shared_umem_fd=5}",
        ),
        (
            join(&[pack(&[(9, 2)]), text("12345", 16)]),
            "{sa_family=AF_X25, sx25_addr={x25_addr=\"12345\"}}",
        ),
        (
            pack(&[(39, 2), (0, 2), (1, 4), (2, 4), (5, 4)]),
            "{sa_family=AF_NFC, dev_idx=1, target_idx=0x2, nfc_protocol=NFC_PROTO_NFC_DEP}",
        ),
        (
            pack(&[(29, 2), (0, 2), (3, 4), (0, 8)]),
            r#"{sa_family=AF_CAN, sa_data="\0\0\3\0\0\0\0\0\0\0\0\0\0\0"}"#,
        ),
    ];
    for (bytes, expected) in cases {
        let args = [3, AT, bytes.len() as u64, 0, 0, 0];
        shown("bind", &args, 1, (bytes, bytes), expected);
        let args = [3, AT, LEN_AT, 0, 0, 0];
        shown("getsockname", &args, 1, (bytes, bytes), expected);
    }
}

#[test]
fn control_messages() {
    assert_eq!(control::counts().0, control::counts().1);
    let message = |level: u64, kind: u64, data: &[u8]| {
        let mut bytes = pack(&[(16 + data.len() as u64, 8), (level, 4), (kind, 4)]);
        bytes.extend(data);
        bytes
    };
    let cases: &[(u64, u64, Vec<u8>, &str)] = &[
        (
            1,
            1,
            pack(&[(4, 4), (5, 4)]),
            "SOL_SOCKET, cmsg_type=SCM_RIGHTS, cmsg_data=[4, 5]",
        ),
        (
            1,
            2,
            pack(&[(9, 4), (8, 4), (7, 4)]),
            "SOL_SOCKET, cmsg_type=SCM_CREDENTIALS, cmsg_data={pid=9, uid=8, gid=7}",
        ),
        (
            1,
            29,
            pack(&[(9, 8), (8, 8)]),
            "SOL_SOCKET, cmsg_type=SO_TIMESTAMP_OLD, cmsg_data={tv_sec=9, tv_usec=8}",
        ),
        (
            0,
            8,
            pack(&[(1, 4), (0x0100_007f, 4), (0x0100_007f, 4)]),
            "SOL_IP, cmsg_type=IP_PKTINFO, cmsg_data={ipi_ifindex=1, ipi_spec_dst=inet_addr(\"127.0.0.1\"), \
                ipi_addr=inet_addr(\"127.0.0.1\")}",
        ),
        (
            0,
            2,
            pack(&[(64, 4)]),
            "SOL_IP, cmsg_type=IP_TTL, cmsg_data=[64]",
        ),
        (
            0,
            1,
            vec![0x10],
            "SOL_IP, cmsg_type=IP_TOS, cmsg_data=[0x10]",
        ),
        (
            0,
            11,
            pack(&[
                (111, 4),
                (2, 1),
                (3, 1),
                (3, 1),
                (0, 1),
                (0, 4),
                (0, 4),
                (2, 2),
                (0, 2),
                (0x0100_007f, 4),
                (0, 8),
            ]),
            "SOL_IP, cmsg_type=IP_RECVERR, cmsg_data={ee_errno=111, ee_origin=2, ee_type=3, ee_code=3, ee_info=0, \
                ee_data=0, offender={sa_family=AF_INET, sin_port=htons(0), sin_addr=inet_addr(\"127.0.0.1\")}}",
        ),
        (
            41,
            50,
            vec![1, 2],
            r#"SOL_IPV6, cmsg_type=0x32, cmsg_data="\1\2""#,
        ),
    ];
    for (level, kind, data, expected) in cases {
        let control = message(*level, *kind, data);
        let header = words(&[0, 0, 0, 0, 0x3000, control.len() as u64, 0]);
        let entry = Pieces::default()
            .with(AT, header)
            .with(0x3000, zeros(control.len()));
        let exit = entry.clone().apply(&[(0x3000, control.clone())]);
        let args = [3, AT, 0, 0, 0, 0];
        let recvmsg = call("recvmsg");
        let values = recvmsg.decode(&args, Some(0), &entry, &exit);
        let shown = values[1].to_string();
        assert!(
            shown.contains(&format!("cmsg_level={expected}}}]")),
            "{shown}"
        );
        let mut read = values.clone();
        read[1] = value_from_text(&shown).unwrap();
        let writes = recvmsg.encode_outputs(&args, &read, 0, &entry).unwrap();
        let mut ours = zeros(control.len());
        entry.apply(&writes).read(0x3000, &mut ours);
        assert_eq!(ours, control, "{expected}");
    }
}
