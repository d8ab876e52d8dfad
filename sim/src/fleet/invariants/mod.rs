//! What must hold, whatever breaks: one promise per file.

mod alike;
mod assets;
mod convergence;
mod floors;
mod groups;
mod inherited;
mod leaders;
mod settled;
mod stored;

use super::world::World;

impl World {
    /// Everything is healed and clients are silent.
    pub(super) fn check_rest(&mut self) {
        self.check_convergence();
        self.check_assets();
        if self.field.has_failed() {
            return;
        }
        for at in self.staying() {
            self.compare_all(at);
        }
        self.check_stored();
        self.check_pending();
    }
}
