//! Items by their hash.

use super::*;
use crate::proof::hash;

/// The most bytes of an item.
pub(super) const MAX_ITEM: usize = 16 << 20;

fn path(item: &Hash) -> String {
    format!("/v1/da/{item}")
}

pub(crate) fn item(want: Hash) -> Op<impl Read<Vec<u8>>> {
    let mut call = Call::get(path(&want)).accept(BINARY);
    call.most = MAX_ITEM;
    op(call, move |answer: Answer| {
        let item = answer.body(BINARY)?;
        match Hash(hash(&item)) {
            got if got != want => Err(Error::bad_answer(format!("an item with the hash {got}, not {want}"))),
            _ => Ok(item),
        }
    })
}

/// The item's hash, and what puts it.
pub(crate) fn put_item(item: Vec<u8>) -> (Hash, Op<impl Read<()>>) {
    let hash = Hash(hash(&item));
    (hash, op(Call::new("PUT", path(&hash)).body(BINARY, item), Answer::nothing))
}
