"""`stillframe secret`: the admin passwords that the service chose and keeps."""

from cyclopts import App

from stillframe.cli.connection import connect
from stillframe.cli.options import DEFAULTS, Common
from stillframe.cli.output import facts

app = App(name="secret", help="Admin passwords that the service manages.")


@app.command
def show(arn: str, /, *, common: Common = DEFAULTS) -> None:
    """Show the user name and password behind the `adminPasswordSecretArn` of a namespace or snapshot."""
    secret = connect(common.data).extend("get_managed_secret", secretArn=arn)
    document = {"username": secret["username"], "password": secret["password"]}
    common.terminal.result(
        document, lambda: facts({"User": document["username"], "Password": document["password"]})
    )
