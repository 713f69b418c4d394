"""What can go wrong on a user's machine, each with one line of cause and one of remedy."""

from inference.errors import FacetError


class LocalProblem(FacetError):
    """Something about this machine keeps Facet from starting or from running on."""

    code = "local"
    status = 500
