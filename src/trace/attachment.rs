//! What the maker of a call attaches to it for those downstream who know what it is.

use std::any::Any;
use std::sync::Arc;

/// Something that belongs to a call and means nothing here: a recording attaches the event
/// with its registers and memory. Two are equal if they are the same one.
#[derive(Clone)]
pub struct Attachment(Arc<dyn Any + Send + Sync>);

impl Attachment {
    /// Attaches this.
    pub fn new<T: Any + Send + Sync>(what: Arc<T>) -> Attachment {
        Attachment(what)
    }

    /// What was attached, if it is of this type.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        Arc::clone(&self.0).downcast().ok()
    }
}

impl PartialEq for Attachment {
    fn eq(&self, other: &Attachment) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl std::fmt::Debug for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Attachment")
    }
}
