//! Files that were put into an enclosure and are kept for the next uses: below the changed files of each of them.
//!
//! The overlay in which they were put is taken away, and another one is laid with its changed files below those of the
//! next use. Nothing changes them any more: what a use does to them is in its own directory, as with the machine's files.

use super::{Enclosure, Laid};
use crate::sandbox::builder::Builder;
use crate::sandbox::placed::AllPlaced;
use crate::sandbox::{Error, Result};
use std::any::Any;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The limit on the directories of kept files below one another.
const DEEPEST: usize = 8;

/// The files that are kept.
#[derive(Debug)]
pub(super) struct Kept {
    /// What they are, for who has put them.
    what: Rc<dyn Any>,
    placed: Rc<AllPlaced>,
}

/// What becomes of the changed files of overlays that are laid anew.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Old {
    /// They are removed.
    Removed,
    /// They are shown below the new ones.
    Kept,
    /// They are removed, and all that was kept.
    Forgotten,
}

impl Enclosure {
    /// What is kept; `None` if nothing is.
    pub(in crate::sandbox) fn kept(&self) -> Option<(Rc<dyn Any>, Rc<AllPlaced>)> {
        let kept = self.kept.as_ref()?;
        Some((Rc::clone(&kept.what), Rc::clone(&kept.placed)))
    }

    /// Whether a file that is put at this path can be kept: it is in an overlay, nothing is hidden, and there are not too many
    /// kept directories.
    pub(in crate::sandbox) fn can_keep(&self, path: &Path) -> bool {
        self.settings.hide.is_empty()
            && self
                .layer_of(path)
                .is_some_and(|laid| laid.layer.is_writable && laid.kept.len() < DEEPEST)
    }

    /// Keeps the files that were put there for this use, at the paths of `new`; `placed` are all that are kept then.
    pub(in crate::sandbox) fn keep(
        &mut self,
        what: Rc<dyn Any>,
        placed: Rc<AllPlaced>,
        new: &AllPlaced,
    ) -> Result<()> {
        let layers = new.keys().filter_map(|path| self.layer_of(path));
        let dirs: BTreeSet<PathBuf> = layers.map(|laid| laid.layer.path.clone()).collect();
        self.kept = Some(Kept { what, placed });
        self.lay_anew(&dirs, Old::Kept)?;
        self.note_age();
        Ok(())
    }

    /// Shows the machine's files again instead of those that are kept.
    pub(in crate::sandbox) fn forget_kept(&mut self) -> Result<()> {
        if self.kept.take().is_none() {
            return Ok(());
        }
        let with_kept = self.layers.iter().filter(|laid| !laid.kept.is_empty());
        let dirs = with_kept.map(|laid| laid.layer.path.clone()).collect();
        self.lay_anew(&dirs, Old::Forgotten)?;
        self.note_age();
        Ok(())
    }

    /// Lays overlays anew, and those in them.
    ///
    /// # Errors
    /// If one cannot be laid: what is below it would be seen.
    pub(super) fn lay_anew(&mut self, dirs: &BTreeSet<PathBuf>, old: Old) -> Result<()> {
        if dirs.is_empty() {
            return Ok(());
        }
        // Taking an overlay away takes away those in it.
        let is_hit = |laid: &Laid| dirs.iter().any(|dir| laid.layer.path.starts_with(dir));
        let is_outer = |laid: &Laid| {
            let mut others = dirs.iter().filter(|dir| **dir != laid.layer.path);
            !others.any(|dir| laid.layer.path.starts_with(dir))
        };
        let place = &self.place;
        let mut b = Builder::default();
        for laid in self.layers.iter().filter(|laid| is_hit(laid)) {
            if is_outer(laid) {
                b.take_away(&laid.layer);
            }
        }
        let step = "make the directories that it shows";
        let (mut calls, mut gone) = (Vec::new(), Vec::new());
        for laid in self.layers.iter_mut().filter(|laid| is_hit(laid)) {
            match old == Old::Kept && dirs.contains(&laid.layer.path) {
                true => laid.kept.insert(0, laid.number),
                false => gone.push(laid.number),
            }
            if old == Old::Forgotten {
                gone.append(&mut laid.kept);
            }
            laid.number = self.next;
            self.next += 1;
            let added = place.add_layer(&laid.layer, laid.number);
            added.map_err(|e| Error::refused(step, e))?;
            calls.push(b.lay(&laid.layer, laid.number, &laid.kept));
        }
        let outcome = b.make(&mut self.keeper)?;
        let results = calls.iter().map(|call| outcome.result(*call).unwrap_or(-1));
        if let Some(failed) = results.into_iter().find(|ret| *ret != 0) {
            self.spoiled = true;
            let error = std::io::Error::from_raw_os_error(failed.wrapping_neg() as i32);
            return Err(Error::refused("mount its overlays anew", error));
        }
        for laid in self.layers.iter_mut().filter(|laid| is_hit(laid)) {
            laid.renew(place).map_err(|e| Error::refused(step, e))?;
            laid.is_used |= old == Old::Removed;
        }
        self.spoiled |= gone.into_iter().any(|number| place.remove(number).is_err());
        Ok(())
    }
}
