"""nginx as a plain proxy: the yardstick that does nothing but relay."""

from pathlib import Path

from controlplane.kit.tls import CertificateFiles


def nginx_settings(folder: Path, files: CertificateFiles, port: int, engine: int, *, tls: bool) -> str:
    """Return nginx.conf of one process that relays unbuffered; with `tls` both its sides are encrypted."""
    listen = f"{port} ssl" if tls else str(port)
    ours = f"ssl_certificate {files.certificate}; ssl_certificate_key {files.key}; ssl_protocols TLSv1.3;"
    theirs = f"proxy_ssl_certificate {files.certificate}; proxy_ssl_certificate_key {files.key};"
    theirs += " proxy_ssl_protocols TLSv1.3;"
    return f"""
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
worker_rlimit_nofile 65536;
events {{ worker_connections 32768; }}
http {{
  access_log off; client_max_body_size 8m; client_body_buffer_size 128k; keepalive_requests 1000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream engine {{ server 127.0.0.1:{engine}; keepalive 256; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{listen} backlog=4096; {ours if tls else ""}
    location / {{
      proxy_pass {"https" if tls else "http"}://engine; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; {theirs if tls else ""}
    }}
  }}
}}
"""
