//! Captures an image of a process that has just executed a new program.

use super::{Backing, Chunk, FileId, Image, Mapping};
use crate::tracee::agent_page::AgentPage;
use crate::tracee::{Error, Result, Stopped, TaskMemory, agent, checked_open, proc};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const PAGE: u64 = 0x1000;
const AT_NULL: u64 = 0;
const AT_IGNORE: u64 = 1;
const AT_SYSINFO_EHDR: u64 = 33;

/// Keeps copies of files that are mapped.
pub trait FileStore {
    /// Keeps the present content of a file.
    ///
    /// # Errors
    /// If it cannot be copied.
    fn keep(&mut self, file: &File, name: &[u8]) -> std::io::Result<FileId>;
}

/// Makes a freshly executed program repeatable: maps the agent, and hides the vdso, so that reading clocks makes system
/// calls.
///
/// # Errors
/// If the process cannot be changed.
pub fn prepare(task: &mut Stopped) -> Result<()> {
    map_agent(task)?;
    write_agent(task)?;
    hide_clocks(task)
}

/// Maps the agent into a freshly executed program that runs live, such that the program cannot change it; with
/// `shows_clocks`, also hides the vdso. `None` where the agent is in memory of the program's own, since the system lets
/// the process have no file.
///
/// # Errors
/// If the process cannot be changed.
pub fn prepare_live(task: &mut Stopped, shows_clocks: bool) -> Result<Option<AgentPage>> {
    let (mapped, page) = AgentPage::install_first(task, ROOM)?;
    is_mapped(task, mapped)?;
    if page.is_none() {
        write_agent(task)?;
    }
    if shows_clocks {
        hide_clocks(task)?;
    }
    Ok(page)
}

fn hide_clocks(task: &mut Stopped) -> Result<()> {
    hide_vdso(task)?;
    let doomed: Vec<proc::Map> = proc::maps(task.tid())?
        .into_iter()
        .filter(|map| map.name == b"[vdso]" || map.name.starts_with(b"[vvar"))
        .collect();
    let mut remote = task.remote_at_boundary()?;
    for map in doomed {
        let args = [map.start, map.end - map.start, 0, 0, 0, 0];
        remote.must("unmap its vdso", libc::SYS_munmap, args)?;
    }
    remote.finish()
}

/// The arguments of mmap(2) for writable memory where the agent is to be.
const ROOM: [u64; 6] = [
    agent::START,
    agent::END - agent::START,
    (libc::PROT_READ | libc::PROT_WRITE) as u64,
    (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE) as u64,
    u64::MAX,
    0,
];

/// Maps that memory.
fn map_agent(task: &mut Stopped) -> Result<()> {
    let ret = task.bootstrap_call(libc::SYS_mmap, ROOM)?;
    is_mapped(task, ret)
}

fn is_mapped(task: &Stopped, ret: i64) -> Result<()> {
    if ret as u64 == agent::START {
        return Ok(());
    }
    let source =
        std::io::Error::from_raw_os_error(if ret < 0 { -ret as i32 } else { libc::EEXIST });
    Err(Error::os(
        format!("map rrapper's pages at {:#x}", agent::START),
        task.tid(),
        source,
    ))
}

/// Makes the first page of that memory the agent's code.
fn write_agent(task: &mut Stopped) -> Result<()> {
    agent::write_code(task.memory(), agent::START)?;
    let prot = (libc::PROT_READ | libc::PROT_EXEC) as u64;
    let args = [agent::START, agent::CODE_LEN, prot, 0, 0, 0];
    let ret = task.bootstrap_call(libc::SYS_mprotect, args)?;
    if ret != 0 {
        let source = std::io::Error::from_raw_os_error(-ret as i32);
        return Err(Error::os("protect rrapper's pages", task.tid(), source));
    }
    Ok(())
}

/// Turns `AT_SYSINFO_EHDR` in the auxiliary vector into `AT_IGNORE`.
fn hide_vdso(task: &mut Stopped) -> Result<()> {
    let memory = task.memory();
    let sp = task.regs()?.sp();
    let mut at = sp.wrapping_add(8 * (memory.word(sp)? + 2));
    while memory.word(at)? != 0 {
        at += 8;
    }
    at += 8;
    loop {
        match memory.word(at)? {
            AT_NULL => return Ok(()),
            AT_SYSINFO_EHDR => memory.write(at, &AT_IGNORE.to_le_bytes())?,
            _ => {}
        }
        at += 16;
    }
}

/// Takes an image of a prepared process between calls.
///
/// # Errors
/// If it cannot be read, or a file that it maps cannot be kept.
pub fn capture(task: &Stopped, files: &mut dyn FileStore) -> Result<Image> {
    let tid = task.tid();
    let memory = task.memory();
    let layout = proc::layout(tid)?;
    let mut image = Image {
        exe: proc::exe(tid)?,
        mappings: Vec::new(),
        pages: Vec::new(),
        layout,
        brk: layout.start_brk,
        regs: Vec::new(),
        sigmask: task.sigmask()?,
        ignored: proc::ignored(tid)?,
        stack_limit: task.stack_limit()?,
    };
    let mut regs = task.regs()?;
    regs.set_ip(regs.ip());
    image.regs = regs.to_words().to_vec();
    let page_map = proc::PageMap::open(tid)?;
    // Neighbouring mappings mostly show the same file.
    let mut last: Option<(proc::Map, FileId)> = None;
    for map in proc::maps(tid)? {
        if agent::overlaps(map.start, map.end) || map.name == b"[vsyscall]" {
            continue;
        }
        if map.name == b"[heap]" {
            image.brk = map.end;
        }
        let backing = match &last {
            Some((before, file)) if map.inode == before.inode && map.name == before.name => {
                Backing::File {
                    file: *file,
                    offset: map.offset,
                }
            }
            _ => backing(tid, &map, &image.exe, files)?,
        };
        if let Backing::File { file, .. } = backing {
            last = Some((map.clone(), file));
        }
        let pages = match backing {
            // No file backs the mapping that could be found again: its whole content is kept.
            Backing::Anonymous if map.inode != 0 => {
                (map.start..map.end).step_by(PAGE as usize).collect()
            }
            _ => page_map.private(map.start, map.end)?,
        };
        read_pages(memory, &pages, &mut image.pages)?;
        image.mappings.push(Mapping {
            start: map.start,
            end: map.end,
            prot: map.prot,
            backing,
            name: map.name,
        });
    }
    Ok(image)
}

fn backing(tid: i32, map: &proc::Map, exe: &[u8], files: &mut dyn FileStore) -> Result<Backing> {
    if map.name == b"[stack]" {
        return Ok(Backing::Stack);
    }
    if map.inode == 0 {
        return Ok(Backing::Anonymous);
    }
    // The executable is opened by its link, which outlives its name; the interpreter by its name. Inode numbers
    // alone do not distinguish files on two file systems.
    let link = format!("/proc/{tid}/exe");
    let by_name = Path::new(std::ffi::OsStr::from_bytes(&map.name));
    let mut inside = format!("/proc/{tid}/root").into_bytes();
    inside.extend(&map.name);
    let path = if exe == map.name {
        Path::new(&link)
    } else {
        Path::new(std::ffi::OsStr::from_bytes(&inside))
    };
    if let Ok(file) = checked_open::regular(path, 0)
        && file.metadata().is_ok_and(|m| m.ino() == map.inode)
    {
        let file = files
            .keep(&file, &map.name)
            .map_err(|e| Error::os(format!("copy {}", by_name.display()), tid, e))?;
        return Ok(Backing::File {
            file,
            offset: map.offset,
        });
    }
    Ok(Backing::Anonymous)
}

fn read_pages(memory: TaskMemory, pages: &[u64], out: &mut Vec<Chunk>) -> Result<()> {
    for run in pages.chunk_by(|a, b| a + PAGE == *b) {
        let mut data = vec![0; run.len() * PAGE as usize];
        memory.read_exact(run[0], &mut data)?;
        out.push(Chunk { addr: run[0], data });
    }
    Ok(())
}
