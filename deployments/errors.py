"""What can go wrong with a deployment.

DeploymentError
    IllegalTransition   somebody else moved it first, or the move does not exist
    NotDeployable       the model's path is closed, or nothing that fits is offered here
    NameTaken           the team has a live deployment of that name
    BackendError        the backend could not do what it was asked
"""


class DeploymentError(Exception):
    """The root of this app's errors; its text is for people."""


class IllegalTransition(DeploymentError):
    pass


class NotDeployable(DeploymentError):
    pass


class NameTaken(DeploymentError):
    pass


class BackendError(DeploymentError):
    pass
