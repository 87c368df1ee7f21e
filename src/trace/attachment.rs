//! An opaque object attached to a call by its maker, for the modules downstream that know the type.

use std::any::Any;
use std::sync::Arc;

/// An object that belongs to a call and is opaque to this module: a recording attaches the event with its registers and
/// memory. Two attachments are equal if they are the same object.
#[derive(Clone)]
pub struct Attachment(Arc<dyn Any + Send + Sync>);

impl Attachment {
    /// Wraps an object.
    pub fn new<T: Any + Send + Sync>(what: Arc<T>) -> Attachment {
        Attachment(what)
    }

    /// The attached object, if it has this type.
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
