"""Fetches targets from the registry with the TUF project's own client, and verifies them.

    tuf_client.py CLOUD TOKEN ROOT.json DIRECTORY TARGET...

CLOUD is like http://127.0.0.1:8080, TOKEN a gateway's, ROOT.json the root that is trusted from the start. DIRECTORY keeps
what the client remembers from one run to the next. Prints an object with the version of the root that it came to trust,
and the SHA-256 and the custom data of each target. What is refused is named, with exit code 1.
"""

import hashlib
import json
import pathlib
import sys
import urllib.error
import urllib.request

from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError
from tuf.ngclient import FetcherInterface, Updater

TIMEOUT_S = 30
CHUNK = 64 * 1024


class Bearer(FetcherInterface):
    """Fetches with a gateway's token."""

    def __init__(self, token):
        self.token = token

    def _fetch(self, url):
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self.token}"})
        try:
            response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            raise DownloadHTTPError(f"{url}: {error}", error.code) from error
        return self.chunks(response)

    @staticmethod
    def chunks(response):
        with response:
            while chunk := response.read(CHUNK):
                yield chunk


def main(cloud, token, root, directory, *names):
    directory = pathlib.Path(directory)
    for folder in ("metadata", "targets"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    updater = Updater(
        metadata_dir=str(directory / "metadata"),
        metadata_base_url=f"{cloud}/tuf/metadata/",
        target_dir=str(directory / "targets"),
        target_base_url=f"{cloud}/tuf/targets/",
        fetcher=Bearer(token),
        bootstrap=pathlib.Path(root).read_bytes(),
    )
    targets = {}
    try:
        updater.refresh()
        for name in names:
            target = updater.get_targetinfo(name)
            if target is None:
                print(f"there is no target {name}")
                return 1
            path = updater.download_target(target)
            digest = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
            targets[name] = {"sha256": digest, "custom": target.custom}
    except (DownloadError, RepositoryError) as error:
        print(f"{type(error).__name__}: {error}")
        return 1
    trusted = json.loads((directory / "metadata" / "root.json").read_bytes())
    print(json.dumps({"root": trusted["signed"]["version"], "targets": targets}))
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
