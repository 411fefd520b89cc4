"""What can go wrong with a deployment.

DeploymentError
    IllegalTransition   somebody else moved it first, or the move does not exist
    NotDeployable       the model's path is closed, or nothing that fits is offered here
        Unlicensed          the team's licence policy does not let it be run for that use; `refusal` says why
    NameTaken           the team has a live deployment of that name
    BadName             the name has characters that an address can't hold
    BadOption           an option that the engine does not know, or a value it does not take
    NotNow              what was asked can't be done in the state that it is in
    BackendError        the backend could not do what it was asked
"""

from catalog.licensing.policy import Refusal


class DeploymentError(Exception):
    """The root of this app's errors; its text is for people."""


class IllegalTransition(DeploymentError):
    pass


class NotDeployable(DeploymentError):
    pass


class Unlicensed(NotDeployable):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text())
        self.refusal = refusal


class NameTaken(DeploymentError):
    pass


class BadName(DeploymentError):
    pass


class BadOption(DeploymentError):
    def __init__(self, option: str, text: str) -> None:
        super().__init__(text)
        self.option = option


class BackendError(DeploymentError):
    pass


class NotNow(DeploymentError):
    pass
