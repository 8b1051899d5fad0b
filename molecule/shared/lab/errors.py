"""What can go wrong in the lab, told with the way forward."""


class LabError(Exception):
    """The lab could not do what was asked; the text names the cause and the next step."""
