"""Derives from the settings which lanes a worker serves, and the limits of their calls."""

from shared.providers import WEBHOOK_LANE, Provider
from shared.providers.lanes import alias_lane
from shared.providers.provider_row import account, provider_of
from shared.queue.capacity import Limits, Rules, ServedBy
from shared.settings import Settings
from shared.settings.providers import Providers
from worker.webhooks import MAX_DELIVERIES


def limits_of(settings: Settings, providers: Providers) -> Limits:
    rows = providers.catalogue.rows
    by_lane = {
        name: row.max_concurrent_requests or settings.max_concurrent_requests
        for name, row in rows.items()
    }
    rules = {name: _rules(row) for name, row in rows.items()}
    served_by = _served_by(providers)
    aliases = {
        lane: sum(by_lane[name] for name in {provider_of(d.account) for d in deployments})
        for lane, deployments in served_by.items()
        if lane not in rows
    }
    return Limits(by_lane | aliases | {WEBHOOK_LANE: MAX_DELIVERIES}, rules, served_by)


def _served_by(providers: Providers) -> dict[str, list[ServedBy]]:
    """Returns the deployments of each lane that has several.

    A provider's lane has a deployment for each key. An alias's lane has a deployment for each key
    of each deployment of the alias. Deployments of an alias that this worker cannot call are left
    out, unless the worker can call none of them.
    """
    rows, missing = providers.catalogue.rows, providers.missing()

    def accounts(provider: str) -> list[str]:
        return [account(provider, key) for key in providers.settings[provider].keys] or [provider]

    lanes = {
        name: [ServedBy(of_key) for of_key in accounts(name)]
        for name in rows
        if len(accounts(name)) > 1
    }
    for name, alias in providers.catalogue.aliases.items():
        if len(alias.deployments) > 1:
            callable_ones = [d for d in alias.deployments if d.provider not in missing]
            lanes[alias_lane(name)] = [
                ServedBy(of_key, rows[d.provider].model_name(d.model), d.weight)
                for d in callable_ones or alias.deployments
                for of_key in accounts(d.provider)
            ]
    return lanes


def _rules(row: Provider) -> Rules:
    return Rules(
        adaptive=row.adaptive,
        per_account=row.limits_per == "account",
        counts_refused=row.counts_refused,
        reserves_output=row.reserves_output,
        rpm=row.rpm,
        tpm=row.tpm,
        rpd=row.rpd,
        models=row.models,
    )


def callable_lanes(providers: Providers) -> set[str]:
    aliases = _served_by(providers).keys() - providers.catalogue.rows.keys()
    configured = providers.catalogue.rows.keys() - providers.missing().keys()
    return configured | aliases | {WEBHOOK_LANE}
