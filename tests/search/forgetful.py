"""An engine that learns nothing and keeps nothing, for tests that only say what it proposes."""

from thalweg.search.engine import Engine


class Forgetful(Engine):
    def _learn(self, results):
        return

    def _own_state(self):
        return {}

    def _restore_own(self, state):
        return
