//! Queues of which every station has some: they grow by a quarter, for the half that a doubled one leaves empty would be most of
//! what a thousand stations take.

use std::collections::VecDeque;

/// Makes room for `more` in `queue`, and some beyond, at least `least`.
pub fn make_room<T>(queue: &mut VecDeque<T>, more: usize, least: usize) {
    if queue.capacity() - queue.len() < more {
        queue.reserve_exact(more.max(least).max(queue.len() / 4));
    }
}

/// Puts one more to the end of `queue`.
pub fn push<T>(queue: &mut VecDeque<T>, item: T) {
    const LEAST: usize = 4;
    make_room(queue, 1, LEAST);
    queue.push_back(item);
}
