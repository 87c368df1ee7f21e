//! The number of bytes that the kernel may write for the commands of ioctl `SIOCETHTOOL` (linux/ethtool.h,
//! net/ethtool/ioctl.c).

use super::Memory;
use super::frame::read_u32;

/// The offset that means that there is no count.
const NONE: u64 = 0;

/// The command, the size of its structure, and two counts (32 bits) in it of the elements that follow: the offset of
/// the count, and the size of an element.
type Command = (u32, u64, [(u64, u64); 2]);

/// Commands whose size is known.
const COMMANDS: &[Command] = &[
    (0x01, 44, [(NONE, 0), (NONE, 0)]),   // ETHTOOL_GSET
    (0x03, 196, [(NONE, 0), (NONE, 0)]),  // ETHTOOL_GDRVINFO
    (0x04, 12, [(8, 1), (NONE, 0)]),      // ETHTOOL_GREGS
    (0x05, 20, [(NONE, 0), (NONE, 0)]),   // ETHTOOL_GWOL
    (0x07, 8, [(NONE, 0), (NONE, 0)]),    // ETHTOOL_GMSGLVL
    (0x0a, 8, [(NONE, 0), (NONE, 0)]),    // ETHTOOL_GLINK
    (0x0b, 16, [(12, 1), (NONE, 0)]),     // ETHTOOL_GEEPROM
    (0x0e, 92, [(NONE, 0), (NONE, 0)]),   // ETHTOOL_GCOALESCE
    (0x10, 36, [(NONE, 0), (NONE, 0)]),   // ETHTOOL_GRINGPARAM
    (0x12, 16, [(NONE, 0), (NONE, 0)]),   // ETHTOOL_GPAUSEPARAM
    (0x14, 8, [(NONE, 0), (NONE, 0)]),    // ETHTOOL_GRXCSUM
    (0x16, 8, [(NONE, 0), (NONE, 0)]),    // ETHTOOL_GTXCSUM
    (0x18, 8, [(NONE, 0), (NONE, 0)]),    // ETHTOOL_GSG
    (0x1a, 16, [(12, 8), (NONE, 0)]),     // ETHTOOL_TEST
    (0x1b, 12, [(8, 32), (NONE, 0)]),     // ETHTOOL_GSTRINGS
    (0x1d, 8, [(4, 8), (NONE, 0)]),       // ETHTOOL_GSTATS
    (0x1e, 8, [(NONE, 0), (NONE, 0)]),    // ETHTOOL_GTSO
    (0x20, 8, [(4, 1), (NONE, 0)]),       // ETHTOOL_GPERMADDR
    (0x21, 8, [(NONE, 0), (NONE, 0)]),    // ETHTOOL_GUFO
    (0x23, 8, [(NONE, 0), (NONE, 0)]),    // ETHTOOL_GGSO
    (0x25, 8, [(NONE, 0), (NONE, 0)]),    // ETHTOOL_GFLAGS
    (0x27, 8, [(NONE, 0), (NONE, 0)]),    // ETHTOOL_GPFLAGS
    (0x29, 192, [(184, 4), (NONE, 0)]),   // ETHTOOL_GRXFH
    (0x2b, 8, [(NONE, 0), (NONE, 0)]),    // ETHTOOL_GGRO
    (0x2d, 192, [(184, 4), (NONE, 0)]),   // ETHTOOL_GRXRINGS
    (0x2e, 192, [(184, 4), (NONE, 0)]),   // ETHTOOL_GRXCLSRLCNT
    (0x2f, 192, [(184, 4), (NONE, 0)]),   // ETHTOOL_GRXCLSRULE
    (0x30, 192, [(184, 4), (NONE, 0)]),   // ETHTOOL_GRXCLSRLALL
    (0x37, 272, [(NONE, 0), (NONE, 0)]),  // ETHTOOL_GSSET_INFO: a count for each bit of a mask
    (0x38, 8, [(4, 4), (NONE, 0)]),       // ETHTOOL_GRXFHINDIR
    (0x3a, 8, [(4, 16), (NONE, 0)]),      // ETHTOOL_GFEATURES
    (0x3c, 36, [(NONE, 0), (NONE, 0)]),   // ETHTOOL_GCHANNELS
    (0x3f, 16, [(NONE, 0), (NONE, 0)]),   // ETHTOOL_GET_DUMP_FLAG
    (0x40, 16, [(12, 1), (NONE, 0)]),     // ETHTOOL_GET_DUMP_DATA
    (0x41, 44, [(NONE, 0), (NONE, 0)]),   // ETHTOOL_GET_TS_INFO
    (0x42, 44, [(NONE, 0), (NONE, 0)]),   // ETHTOOL_GMODULEINFO
    (0x43, 16, [(12, 1), (NONE, 0)]),     // ETHTOOL_GMODULEEEPROM
    (0x44, 40, [(NONE, 0), (NONE, 0)]),   // ETHTOOL_GEEE
    (0x46, 24, [(8, 4), (12, 1)]),        // ETHTOOL_GRSSH
    (0x48, 16, [(12, 1), (NONE, 0)]),     // ETHTOOL_GTUNABLE
    (0x4a, 8, [(4, 8), (NONE, 0)]),       // ETHTOOL_GPHYSTATS
    (0x4c, 1572, [(NONE, 0), (NONE, 0)]), // ETHTOOL_GLINKSETTINGS: three masks of up to 127 words
    (0x4e, 16, [(12, 1), (NONE, 0)]),     // ETHTOOL_PHY_GTUNABLE
    (0x50, 16, [(NONE, 0), (NONE, 0)]),   // ETHTOOL_GFECPARAM
];

/// The size that is assumed for other commands: if they write, they write one piece.
const ANY: u64 = 64 << 10;

/// The limit of the size of all commands.
const MOST: u64 = 16 << 20;

/// The greatest number of bytes that the kernel has written from `data` on, where the command is. `exit` is memory
/// after the call.
pub fn ethtool_size(data: u64, exit: &dyn Memory) -> usize {
    let Some(command) = read_u32(exit, data) else {
        return 0;
    };
    let known = COMMANDS.iter().find(|row| row.0 == command);
    let size = known.map_or(ANY, |&(_, size, counts)| {
        let more = counts.iter().filter(|(at, _)| *at != NONE);
        let more = more.map(|&(at, each)| {
            let count = read_u32(exit, data.wrapping_add(at)).unwrap_or(0);
            u64::from(count) * each
        });
        size + more.sum::<u64>()
    });
    size.min(MOST) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    struct At(Vec<u32>);

    impl Memory for At {
        fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
            let bytes: Vec<u8> = self.0.iter().flat_map(|word| word.to_le_bytes()).collect();
            let rest = bytes.get(addr as usize - 0x100..).unwrap_or(&[]);
            let n = rest.len().min(buf.len());
            buf[..n].copy_from_slice(&rest[..n]);
            n
        }
    }

    #[test]
    fn counts_are_of_what_follows() {
        let size = |words: &[u32]| ethtool_size(0x100, &At(words.to_vec()));
        assert_eq!(size(&[0x0a, 1]), 8);
        assert_eq!(size(&[0x1b, 1, 5]), 12 + 5 * 32);
        assert_eq!(size(&[0x46, 0, 128, 40, 0, 0]), 24 + 128 * 4 + 40);
        assert_eq!(size(&[0x4b]), ANY as usize);
        assert_eq!(size(&[0x1d, u32::MAX]), MOST as usize);
        assert_eq!(size(&[]), 0);
        assert!(COMMANDS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
