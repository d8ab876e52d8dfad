use linnet_jsapi::API_LEVEL;
use linnet_jsapi::errors::ApiError;
use linnet_jsapi::info::{AccountInfo, AccountTier, ApiStats};
use linnet_jsapi::responses::AccountInfoResponse;

use super::Call;

/// `INFO`: usage and limits of the account.
pub(super) fn info(call: &Call<'_>) -> Result<AccountInfoResponse, ApiError> {
    let account = call.account;
    let (memory, storage) = call.engine.usage.account(account.name());
    let (reserved_memory, reserved_storage) = account.reserved();
    let streams = account.streams();
    let (total, errors) = account.api_counts();
    let domain = &call.engine.config.domain;
    Ok(AccountInfoResponse {
        info: AccountInfo {
            total: AccountTier {
                memory,
                storage,
                reserved_memory,
                reserved_storage,
                streams: streams.len() as u64,
                consumers: streams.iter().map(|s| s.cell().consumers()).sum(),
                limits: account.limits(),
            },
            domain: (!domain.is_empty()).then(|| domain.clone()),
            api: ApiStats { level: API_LEVEL, total, errors, inflight: 0 },
            ..AccountInfo::default()
        },
    })
}
