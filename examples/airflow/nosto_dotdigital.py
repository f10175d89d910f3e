"""One task for each dotdigital account, once a day: an example for Apache Airflow 3.

Settings that all accounts share are in the environment of the workers (see README.md beside this file), those of one account in
`accounts.yml`, and its secrets in one Airflow variable for each account.
"""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Any

import yaml
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

PROJECT = os.environ.get("NOSTO_DOTDIGITAL_PROJECT", "/opt/nosto-dotdigital")
ACCOUNTS = Path(os.environ.get("NOSTO_DOTDIGITAL_ACCOUNTS", Path(__file__).with_name("accounts.yml")))
# what an account's variable holds: setting -> environment variable
SECRETS = {
    "export_token": "TAP_NOSTO_SEGMENTS_EXPORT_TOKEN",
    "api_user": "TARGET_DOTDIGITAL_API_USER",
    "api_password": "TARGET_DOTDIGITAL_API_PASSWORD",
    "ledger_url": "TARGET_DOTDIGITAL_LEDGER_URL",
}
# Meltano keeps a plugin's state and catalog files in one folder of its system directory, whatever the state ID: two runs at once would
# read each other's (https://github.com/meltano/meltano/issues/8763). So each account has its own, with links to the installed plugins.
RUN = """\
set -e
mkdir -p "$MELTANO_SYS_DIR_ROOT" .meltano/extractors .meltano/loaders
ln -sfn "$PWD/.meltano/extractors" "$PWD/.meltano/loaders" "$MELTANO_SYS_DIR_ROOT"
exec meltano run --state-id-suffix={name} tap-nosto-segments target-dotdigital
"""


def environment(account: dict[str, Any]) -> dict[str, str]:
    """Return the settings of one account's run; the secrets are filled in when the task starts."""
    name = account["name"]
    secrets = {variable: f"{{{{ var.json.nosto_dotdigital_{name}.{secret} }}}}" for secret, variable in SECRETS.items()}
    return {
        "MELTANO_SYS_DIR_ROOT": f"{PROJECT}/.meltano/accounts/{name}",
        "TAP_NOSTO_SEGMENTS_SNAPSHOT_URI": f"{os.environ['NOSTO_DOTDIGITAL_SNAPSHOTS']}/{name}",
        "TARGET_DOTDIGITAL_REPORT_DIR": f"{os.environ['NOSTO_DOTDIGITAL_REPORTS']}/{name}",
        **secrets,
        **{variable: str(value) for variable, value in account["settings"].items()},
    }


with DAG(
    "nosto_dotdigital",
    description="Nosto's segments into dotdigital, one task for each account",
    schedule="0 6 * * *",
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    # a day that was missed needs no run of its own: the next one carries over all that changed
    catchup=False,
    max_active_runs=1,
    default_args={
        "retries": 3,
        "retry_delay": datetime.timedelta(minutes=20),
        "retry_exponential_backoff": True,
        "execution_timeout": datetime.timedelta(hours=8),
    },
) as dag:
    for one in yaml.safe_load(ACCOUNTS.read_text()):
        BashOperator(
            task_id=one["name"],
            # of one slot: the same account never runs twice at once, however it is started (the ledger's lock would stop the second)
            pool=f"dotdigital_{one['name']}",
            cwd=PROJECT,
            # the suffix gives each account a state of its own
            bash_command=RUN.format(name=one["name"]),
            env=environment(one),
            append_env=True,
        )
