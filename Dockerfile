# The course in a container, as an ordinary user; `docker build`, Codespaces, Binder and a class's JupyterHub use it.
#
#   docker build -t inside-gpt .
#   docker run --rm -p 127.0.0.1:8888:8888 -v inside-gpt-work:/home/learner/inside-gpt/work inside-gpt
#
# For a CUDA GPU, on a base that has NVIDIA's tools (PyTorch brings CUDA's libraries itself):
#   docker build --build-arg BASE=nvidia/cuda:13.0.1-base-ubuntu24.04 -t inside-gpt:cuda .
#   docker run --gpus all …
# Without a GPU, --build-arg PIP_EXTRA_INDEX_URL=ADDRESS takes PyTorch's builds for a CPU, as the README says.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS base
ARG NB_USER=learner
ARG NB_UID=1000
ENV LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bubblewrap ca-certificates fonts-dejavu-core git make \
    && if ! command -v python3 > /dev/null; then apt-get install --yes --no-install-recommends python3 python3-venv; fi \
    && rm -rf /var/lib/apt/lists/*
# A base may come with a user of this number.
RUN if getent passwd "${NB_UID}" > /dev/null; then userdel --remove "$(getent passwd "${NB_UID}" | cut -d: -f1)"; fi \
    && useradd --create-home --shell /bin/bash --uid "${NB_UID}" "${NB_USER}"
USER ${NB_USER}
WORKDIR /home/${NB_USER}

FROM base AS course
ARG PIP_EXTRA_INDEX_URL
# What a class adds, for example EXTRA=jupyterhub
ARG EXTRA=
ARG NB_USER=learner
ARG NB_UID=1000
RUN mkdir inside-gpt  # by the user, and so the user's
WORKDIR /home/${NB_USER}/inside-gpt
# What is installed depends on these alone, and is kept as long as they stay.
COPY --chown=${NB_UID} pyproject.toml constraints.txt README.md LICENSE Makefile ./
COPY --chown=${NB_UID} gptlib gptlib
RUN make install \
    && if [ -n "${EXTRA}" ]; then .venv/bin/python -m pip install --no-cache-dir -c constraints.txt ${EXTRA}; fi \
    && rm -rf "${HOME}/.cache"
COPY --chown=${NB_UID} . .
ENV PATH="/home/${NB_USER}/inside-gpt/.venv/bin:${PATH}"
EXPOSE 8888
CMD ["python", "source/lab.py", "--ip=0.0.0.0", "--no-browser"]
