# One image for every process of Facet; docker-compose.yml says which one a container is.
FROM python:3.11-slim

# torch's CUDA build is what most indexes hand out. For machines without a GPU, name an index of CPU builds:
#   docker compose build --build-arg PIP_EXTRA_INDEX_URL=...
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL

RUN useradd --create-home --uid 1000 facet && install -d -o facet -g facet /srv/facet /var/lib/facet
WORKDIR /srv/facet
COPY requirements.lock .
RUN pip install --no-cache-dir --no-input -r requirements.lock
COPY --chown=facet:facet . .

USER facet
ENV FACET_LOCAL=/var/lib/facet FACET_STATIC=collected FACET_HOST=0.0.0.0 PYTHONUNBUFFERED=1
VOLUME /var/lib/facet
EXPOSE 8000
CMD ["python", "-m", "explorer.local", "web"]
