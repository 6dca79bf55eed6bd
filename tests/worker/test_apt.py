"""The proxy that this machine's apt goes through."""

from greenroom.worker.images.apt import proxies


def test_a_proxy_of_apts_counts_where_the_environment_has_none(tmp_path, monkeypatch, need):
    need.file("/usr/bin/apt-config")
    config = tmp_path / "apt.conf"
    config.write_text('Acquire { http { Proxy "http://proxy.example:3128"; }; https { Proxy "DIRECT"; }; };\n')
    monkeypatch.setenv("APT_CONFIG", str(config))
    assert proxies({}) == {"http_proxy": "http://proxy.example:3128"}
    assert proxies({"HTTPS_PROXY": "http://x"}) == {}
